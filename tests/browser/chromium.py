"""Debian's Chromium without a window: opens a file as a desktop or a phone does, in light or dark, and tells what the page did."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INSTALL = "apt-get install chromium chromium-driver"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def missing() -> str | None:
    """What is not installed and the line that installs it, or None."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not found: {INSTALL}" if absent else None


class Browser:
    """One running Chromium."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        driver.execute_cdp_cmd("Network.enable", {})

    def open(self, file: Path, width: int, scheme: str) -> None:
        """Load a file at a width in pixels, where the reader prefers the colour scheme `light` or `dark`."""
        command = self._driver.execute_cdp_cmd
        self._driver.get("about:blank")
        command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self._read("performance")
        self._read("browser")
        self._driver.get(file.as_uri())

    def run(self, script: str, *arguments: object) -> Any:
        """The value that a script of the test returns inside the page."""
        return self._driver.execute_script(script, *arguments)

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened, the page's own included."""
        messages = [json.loads(entry["message"])["message"] for entry in self._read("performance")]
        return [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]

    def console(self) -> list[str]:
        """Messages on the console since the page was opened; a request that the page's policy forbids is one."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._read("browser")]

    def photograph(self, file: Path) -> None:
        """The whole page as a PNG file."""
        size = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        taken = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        file.write_bytes(base64.b64decode(taken["data"]))

    def _read(self, log: str) -> list[dict[str, Any]]:
        return self._driver.get_log(log)


@contextmanager
def launched(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile, which ends with the block."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
