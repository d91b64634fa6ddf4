"""Where `templates/` and `audits/` are: in a wheel, in an editable install and in a bare checkout."""

from pathlib import Path

from fairaudit.errors import FairauditError


def resource_dir(name: str) -> Path:
    """Return the folder `name` ("templates" or "audits").

    A wheel carries it inside the package; an editable install and a checkout have it beside the package.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise FairauditError(f"the folder {name!r} that belongs to fairaudit is missing: reinstall the package")
