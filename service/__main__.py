"""`python -m service`: the same as the command `eventlog`."""

from service.cli.main import main

main()
