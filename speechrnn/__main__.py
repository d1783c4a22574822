"""``python -m speechrnn``: the same as the command ``speechrnn``."""

from speechrnn.cli import main

raise SystemExit(main())
