"""`python -m fairaudit` is the command `fairaudit`."""

from fairaudit.cli import main

if __name__ == "__main__":
    main()
