"""Campaigns: faults tried by hand, for minutes; the suite holds a short form of each.

python -m tests.campaign kill     from the project's root
"""

import click

from tests.campaign.answers import answers
from tests.campaign.bits import bits
from tests.campaign.cluster import cluster
from tests.campaign.families import families
from tests.campaign.faults import faults
from tests.campaign.forge import forge
from tests.campaign.fuzz import fuzz
from tests.campaign.kill import kill
from tests.campaign.secrets import secrets
from tests.campaign.smollm import smollm
from tests.campaign.strangers import strangers
from tests.campaign.templates import templates


@click.group()
def campaign() -> None:
    """Try to break a build, and print what was tried and what survived."""


campaign.add_command(answers)
campaign.add_command(kill)
campaign.add_command(fuzz)
campaign.add_command(bits)
campaign.add_command(faults)
campaign.add_command(cluster)
campaign.add_command(forge)
campaign.add_command(secrets)
campaign.add_command(strangers)
campaign.add_command(templates)
campaign.add_command(families)
campaign.add_command(smollm)

if __name__ == "__main__":
    campaign()
