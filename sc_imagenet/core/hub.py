"""The Hugging Face Hub: fetching a repository, uploading a folder, and its many ways to say no in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sc_imagenet.core.errors import InputError

LIBRARY = "sc-imagenet"  # what cards call this package, as their ``library_name`` and among their tags


@contextmanager
def asking_the_hub(repo: str, lost: str) -> Iterator[None]:
    """Turn whatever the Hub's client raises into one line that says what to do and what of the work is lost.

    Raises:
        InputError: offline, not reachable, no such repository, no permission.
    """
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except InputError:
        raise
    except HFValidationError as error:
        raise InputError("is not the name of a repository", where=repo, fix="Give OWNER/NAME.") from error
    except Exception as error:  # of its HTTP library, which differs between versions, or its own
        line = next(iter(str(error).splitlines()), "") or type(error).__name__
        offline = isinstance(error, OfflineModeIsEnabled) or "outgoing traffic has been disabled" in str(error)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if offline:
            line, fix = "HF_HUB_OFFLINE is set", "Unset it."
        elif status in (401, 403, 404):
            fix = "Is the name right? Log in with 'hf auth login' if it is private or to be written."
        else:
            fix = "Is the network there? Try again."
        raise InputError(f"the Hub says no ({line})", where=repo, fix=f"{fix} {lost}") from error


def check_repo_name(repo: str) -> None:
    """See that a repository can be called so, before anything is made for it.

    >>> check_repo_name("me/my-set")

    Raises:
        InputError: it cannot.
    """
    from huggingface_hub.utils import validate_repo_id

    with asking_the_hub(repo, ""):
        validate_repo_id(repo)


def fetch_repository(
    name_or_path: str | Path, files: Sequence[str], *, revision: str | None = None, token: str | bool | None = None
) -> Path:
    """The folder of a repository: ``name_or_path`` itself where it is a folder, else fetched from the Hub or its cache.

    Raises:
        InputError: neither a folder nor a repository that can be had.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    name = str(name_or_path)
    if os.path.isabs(folder) or name.startswith(".") or name.count("/") != 1:
        raise InputError("no such folder, and no repository OWNER/NAME of the Hub", where=name)
    from huggingface_hub import snapshot_download

    with asking_the_hub(name, "There is no folder of this name here, either."):
        return Path(snapshot_download(name, allow_patterns=list(files), revision=revision, token=token))


def upload(
    folder: Path,
    repo: str,
    kind: Literal["model", "dataset"],
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    message: str | None = None,
    **options: Any,
) -> str:
    """Upload all of a folder as one commit, making the repository if there is none; the commit's address.

    Args:
        folder: what is uploaded, and nothing else.
        repo: OWNER/NAME.
        kind: of repository.
        private: whether a repository that is made now is private.
        token: instead of the one of ``hf auth login``.
        message: of the commit.
        options: further ones of ``HfApi.upload_folder``, such as ``create_pr``.

    Raises:
        InputError: the Hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    with asking_the_hub(repo, "Nothing was lost; the same command tries again."):
        api = HfApi(token=token, library_name=LIBRARY)
        name = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True).repo_id
        said = message or f"{kind.capitalize()} from {LIBRARY}"
        return str(api.upload_folder(folder_path=folder, repo_id=name, repo_type=kind, commit_message=said, **options))
