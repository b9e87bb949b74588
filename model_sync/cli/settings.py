"""The settings of the command line: the addresses of the sidecar and the store."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_settings import BaseSettings

from bunriwiki.settings import CommonSettings, read
from model_sync.cli.exits import CliError, Exit

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class CliSettings(CommonSettings):
    """The settings that the command line shares with the sidecar, and its own."""

    sync_url: str = Field(
        default="",
        pattern=r"^(https?://[^/]+.*)?$",
        description="URL of the sidecar for the command line; default: this machine.",
    )
    sync_port: int = Field(default=3002, ge=0, le=65535, description="Port of the sidecar; 0: none.")

    @property
    def url(self) -> str | None:
        """The URL of the sidecar; None if it has no port."""
        if self.sync_url:
            return self.sync_url.rstrip("/")
        return f"http://127.0.0.1:{self.sync_port}" if self.sync_port else None


def read_settings(kind: type[SettingsT]) -> SettingsT:
    """The settings. Raises CliError if a setting is invalid."""
    try:
        return read(kind)
    except SystemExit as error:
        raise CliError(Exit.USAGE, str(error.code)) from error


def is_here(url: str) -> bool:
    """Whether the host of `url` is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
