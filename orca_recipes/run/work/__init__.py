"""What every maker of a stage works with: workers, schedule, accounts of rows. Nothing here decides a byte."""
