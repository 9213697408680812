"""Tools shared by all makers of stages: workers, schedule, accounts of rows. Nothing here decides a byte."""
