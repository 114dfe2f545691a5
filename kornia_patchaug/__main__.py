"""``python -m kornia_patchaug``."""

from kornia_patchaug.cli import main

if __name__ == "__main__":
    raise SystemExit(main(prog="python -m kornia_patchaug"))
