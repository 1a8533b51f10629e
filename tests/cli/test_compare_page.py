"""The page of ``vsaether compare`` in a real Chromium."""

import json
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from vsaether.cli import main

from .conftest import Picture, make_video, solid

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--force-device-scale-factor=1", "--window-size=1200,900"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("NO BROWSER: the comparison page is NOT tested; install Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, Service(driver))
    yield started
    started.quit()


def plain(value: int) -> Picture:
    return lambda index, *size: solid(value + index, 128, 128)(index, *size)


@pytest.fixture(scope="module")
def page(browser: WebDriver, tmp_path_factory: pytest.TempPathFactory) -> WebDriver:
    """The page of a dark film A, a light one B and a reference R, whose name would end a script, opened."""
    folder = tmp_path_factory.mktemp("films")
    films = [
        make_video(folder / name, codec="ffv1", picture=plain(value), pts=[0, 40, 80])
        for name, value in (("a<b.mkv", 60), ("b.mkv", 160), ("<!--<script>.mkv", 62))
    ]
    made = folder / "page.html"
    assert main(["compare", *map(str, films[:2]), "--reference", str(films[2]), "-o", str(made)]) == 0
    browser.get(made.as_uri())
    return browser


def gray(page: WebDriver, across: float) -> int:
    """How light the view is at a part of its width, when the frame is drawn."""
    WebDriverWait(page, 10).until(lambda d: d.find_element(By.ID, "view").get_attribute("data-frame"))
    script = """const c = document.getElementById("view");
        return c.getContext("2d").getImageData(c.width * arguments[0], c.height / 2, 1, 1).data[0]"""
    return page.execute_script(script, across)


def press(page: WebDriver, *keys: str) -> None:
    for key in keys:
        page.find_element(By.TAG_NAME, "body").send_keys(key)


def luma(value: int) -> int:
    return round((value - 16) * 255 / 219)


def test_slider_and_stepping(page: WebDriver) -> None:
    """A is left of the border and B right of it; arrows change the frame, and brackets move the border."""
    assert gray(page, 0.4) == pytest.approx(luma(60), abs=1)
    assert gray(page, 0.6) == pytest.approx(luma(160), abs=1)
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert gray(page, 0.4) == pytest.approx(luma(62), abs=1)
    assert "frame 2 of 3" in page.find_element(By.ID, "where").text
    press(page, *["["] * 10)
    assert gray(page, 0.4) == pytest.approx(luma(162), abs=1)
    assert page.find_element(By.ID, "handle").get_attribute("aria-valuenow") == "30"
    press(page, Keys.HOME, *["]"] * 10)
    assert "frame 0 of 3" in page.find_element(By.ID, "where").text


def test_layouts(page: WebDriver) -> None:
    press(page, "v")
    assert [gray(page, at) for at in (0.25, 0.75)] == pytest.approx([luma(60), luma(160)], abs=1)
    press(page, "f", " ")
    assert gray(page, 0.4) == pytest.approx(luma(160), abs=1)
    press(page, " ")
    page.execute_script('document.getElementById("right").value = 2')
    page.execute_script('document.getElementById("right").dispatchEvent(new Event("change"))')
    press(page, "d")
    assert gray(page, 0.5) == pytest.approx(8 * (luma(62) - luma(60)), abs=8)
    press(page, "s")


def test_zoom_and_figures(page: WebDriver) -> None:
    press(page, "1", "+", "+")
    assert page.find_element(By.ID, "zoom").text == "400 %"
    assert page.execute_script("return paint.imageSmoothingEnabled") is False
    press(page, "0")
    rows = [row.text for row in page.find_element(By.ID, "body").find_elements(By.TAG_NAME, "tr")]
    assert [row.split()[0] for row in rows] == ["PSNR", "SSIM", "XPSNR", "SSIMULACRA2"]
    assert f"{42.11:.2f}" in rows[0]  # 2 of 255
    assert len(page.find_elements(By.CSS_SELECTOR, "#plot polyline")) == 2
    assert "PSNR" in (page.find_element(By.ID, "plot").get_attribute("aria-label") or "")


def test_everything_has_a_name_and_nothing_is_loaded(page: WebDriver) -> None:
    """Each control is named for those who do not see it; no request leaves the page, and nothing is reported."""
    script = """return [...document.querySelectorAll("button, select, input, canvas, svg, [role=slider]")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim())).map((e) => e.outerHTML)"""
    assert page.execute_script(script) == []
    assert page.find_element(By.CSS_SELECTOR, "#sides .R + dd").text.startswith("<!--<script>.mkv")
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]  # type: ignore[no-untyped-call]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "chrome"}  # chrome: the browser's own first page
    assert sum(url.startswith("file:") for url in asked) == 1
    reported = page.get_log("browser")  # type: ignore[no-untyped-call]
    assert [each["message"] for each in reported if each["level"] == "SEVERE"] == []
