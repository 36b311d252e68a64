"""``python -m al_driver``: the command line without the console script."""

from al_driver.cli import main

main()
