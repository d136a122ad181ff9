"""The recordings that the user names by addresses in an object store."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from pathlib import Path

from msfser_cli.errors import UsageError
from msfser_cli.store import objects
from msfser_cli.store.audio import is_audio_name, is_hidden_folder
from msfser_cli.store.objects import Address, Location
from msfser_cli.tabular import is_table_name


def find(texts: Sequence[str], named: Container[str], root: Location | None) -> tuple[Address, list[Address], int]:
    """The corpus root, the objects of all recordings, and the number of other objects. A hidden folder counts as one.

    texts: addresses of objects and folders. Those that are not among `named` may be missing. root: as the user gives it.
    Raises UsageError if an address is no such thing, or the addresses are not of one bucket; ResourceError if the store cannot be
    asked.
    """
    addresses = _of_one_bucket(texts, root)
    found: list[Address] = []
    folders: list[Address] = []
    ignored = 0
    kinds = objects.kinds(addresses)
    if absent := [text for text, kind in zip(texts, kinds, strict=True) if kind is None and text in named]:
        raise UsageError(f"{', '.join(absent)}: no such object or folder")
    for address, kind in zip(addresses, kinds, strict=True):
        if kind == "folder":
            folders.append(address)
            inside = objects.inside(address)
            hidden = {folder for each in inside if (folder := _hidden_folder(each, address))}
            shown = [each for each in inside if not _hidden_folder(each, address)]
            recordings = [each for each in shown if is_audio_name(Path(each.name))]
            ignored += len(shown) - len(recordings) + len(hidden)
            found += recordings
        else:
            found.append(kind or address)
    if folders and not found:
        raise UsageError(f"{', '.join(map(str, folders))}: no audio or video files in it; name another folder")
    if root is None:
        root = folders[0] if len(folders) == 1 == len(texts) else _common_folder(found)
    assert isinstance(root, Address)
    return root, found, ignored


def _of_one_bucket(texts: Sequence[str], root: Location | None) -> list[Address]:
    addresses = []
    for text in texts:
        address = Address.parse(text)
        if is_table_name(Path(text)):
            raise UsageError(f"{text}: a manifest names files on disk only; name the folder of the recordings instead")
        if address is None or isinstance(root, Path):
            raise UsageError(f"{root if address else text}: on this machine, but other names are in an object store; use "
                             "one kind of place")
        addresses.append(address)
    if not addresses:
        raise UsageError("no recordings are named; name files or folders")
    everything = addresses if root is None else [*addresses, root]
    for other in everything[1:]:
        if isinstance(other, Address) and (other.scheme, other.bucket) != (addresses[0].scheme, addresses[0].bucket):
            raise UsageError(f"{addresses[0]} and {other}: in two buckets; annotate each bucket into an output of its own")
    return addresses


def _hidden_folder(address: Address, folder: Address) -> str | None:
    """The outermost hidden folder below `folder` that holds the object, if any."""
    parts = (address.below(folder) or "").split("/")[:-1]
    for number, part in enumerate(parts, start=1):
        if is_hidden_folder(part):
            return "/".join(parts[:number])
    return None


def _common_folder(addresses: Sequence[Address]) -> Address:
    return Address(addresses[0].scheme, os.path.commonpath([address.name.rpartition("/")[0] for address in addresses]))
