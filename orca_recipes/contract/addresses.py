"""Objects at addresses (`s3://bucket/path` and its kin), for sources whose files lie elsewhere."""

from orca_recipes.objects.address import Address as Address
from orca_recipes.objects.address import address_of as address_of
from orca_recipes.objects.objects import ObjectFacts as ObjectFacts
from orca_recipes.objects.objects import Objects as Objects
