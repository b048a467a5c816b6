"""`python -m pairfuse` is the same as `pairfuse`."""

from pairfuse.cli import main

raise SystemExit(main())
