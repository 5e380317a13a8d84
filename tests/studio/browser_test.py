#!/usr/bin/env python3
"""Drives ip2p studio in Chromium, as people do: with the mouse, the keyboard alone, and on a telephone.

    browser_test.py PROGRAMS_DIR SOURCE_DIR [TEST...]
    browser_test.py PROGRAMS_DIR SOURCE_DIR --screenshots FOLDER    makes the pictures of the documentation instead

The photograph is one of ../shared/data (or IP2P_TEST_DATA) where that is there, otherwise that of docs/images. Pictures are
compared in the browser, so nothing but selenium is needed. Takes about five minutes on two cores.
"""
import argparse
import base64
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
import unittest

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from client import Service  # noqa: E402

LIMIT = 120  # seconds for anything that is waited for

# Counts, in the browser, how two pictures differ: pixels of the left half and of the right half that are not the same.
DIFFERENCES = """
const [one, other, done] = arguments;
(async () => {
  const pixels = async (address) => {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = Object.assign(document.createElement('canvas'), {width: image.naturalWidth, height: image.naturalHeight});
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  };
  const a = await pixels(one), b = await pixels(other);
  const count = {sizes: [a.width, a.height, b.width, b.height], left: 0, right: 0};
  for (let i = 0; i < a.data.length; i += 4) {
    const differs = [0, 1, 2].some((c) => a.data[i + c] !== b.data[i + c]);
    if (differs) ++count[(i / 4) % a.width < a.width / 2 ? 'left' : 'right'];
  }
  return count;
})().then(done, (error) => done(String(error)));
"""


def service_of(program, source, *options, port=0):
    return Service(program, "--model", source / "models/small-editor", "--device", "cpu", *options, port=port)


def browser(downloads, width=1280, height=800, phone=False, dark=False):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--force-color-profile=srgb"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if phone:
        options.add_experimental_option("mobileEmulation", {
            "deviceMetrics": {"width": width, "height": height, "pixelRatio": 2, "touch": True}})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(LIMIT)
    if not phone:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
    return driver


class Page:
    """What a person does on the page, and sees there."""

    def __init__(self, driver, url):
        self.driver, self.url = driver, url

    def open(self):
        self.driver.get(self.url)
        self.until(lambda: self.all("#suggestions button"), "the model is known")
        return self

    def __getitem__(self, name):
        return self.driver.find_element(By.ID, name)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition, what, limit=LIMIT):
        """Waits. What is waited for is named in the error, with what the page says meanwhile."""
        try:
            return WebDriverWait(self.driver, limit, poll_frequency=0.03).until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"expected that {what} within {limit} s; the page says:\n"
                                 f"{self.driver.find_element(By.TAG_NAME, 'body').text}") from None

    def shown(self, name):
        return self[name].is_displayed()

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def photograph(self, path):
        self["file"].send_keys(str(path))
        self.until(lambda: self.shown("print"), "the photograph is shown")

    def say(self, instruction, *keys):
        self["prompt"].clear()
        self["prompt"].send_keys(instruction, *keys)

    def set(self, name, value):
        field = self[f"set-{name}"]
        field.clear()
        field.send_keys(str(value))

    def settings(self):
        if not self.shown("settings"):
            self["settings-open"].click()

    def begun(self):
        self.until(lambda: re.match(r"Step [1-9]", self["progress-text"].text), "a first step is done")

    def over(self):
        self.until(lambda: self.shown("go"), "the edit is over")

    def result(self):
        """Waits for the result of an edit. Returns its address."""
        self.over()
        self.until(lambda: self.shown("wipe"), "a result is shown", 10)
        self.until(lambda: self.script("return document.getElementById('after').complete"), "the result is loaded", 10)
        return self["after"].get_attribute("src")

    def differences(self, one, other):
        return self.driver.execute_async_script(DIFFERENCES, one, other)

    def wide(self):
        """Whether the page can be scrolled sideways."""
        return self.script("return document.documentElement.scrollWidth > innerWidth || innerWidth > screen.width")

    def address(self, path):
        """A file as a data URL."""
        kind = {".jpg": "jpeg", ".png": "png"}[path.suffix]
        return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


class StudioTest(unittest.TestCase):
    program = source = photograph = None  # set by main()

    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.folder = pathlib.Path(cls.scratch.name)
        cls.service = service_of(cls.program, cls.source)
        index = json.loads((cls.source / "models/small-editor/model_index.json").read_text())
        cls.advised_steps = index["_ip2p_settings"]["steps"]
        cls.addClassCleanup(cls.service.__exit__)

    def setUp(self):
        self.page = self.page_of(self.service)

    def page_of(self, service, **how):
        """A page in a browser of its own, so that no test finds another's history."""
        driver = browser(self.folder, **how)
        self.addCleanup(driver.quit)
        return Page(driver, service.address + "/").open()

    def tearDown(self):
        """Nothing breaks the page's own policy, and nothing fails unseen."""
        loud = [entry["message"] for entry in self.page.driver.get_log("browser")
                if entry["level"] == "SEVERE" and "status of 4" not in entry["message"]
                and "net::ERR_" not in entry["message"]]
        self.assertEqual(loud, [])

    def png(self):
        """The photograph as PNG, which all decoders read as the same pixels; made by the browser."""
        path = self.folder / "photograph.png"
        if not path.exists():
            address = self.page.driver.execute_async_script("""
              const [source, done] = arguments;
              const image = new Image();
              image.onload = () => {
                const canvas = Object.assign(document.createElement('canvas'), {width: image.naturalWidth, height: image.naturalHeight});
                canvas.getContext('2d').drawImage(image, 0, 0);
                done(canvas.toDataURL('image/png'));
              };
              image.src = source;""", self.page.address(self.photograph))
            path.write_bytes(base64.b64decode(address.partition(",")[2]))
        return path

    def downloaded(self, click):
        before = set(self.folder.glob("*.png"))
        click()
        new = self.page.until(lambda: set(self.folder.glob("*.png")) - before, "a file is downloaded", 20)
        return new.pop()

    def test_edit_with_preview_and_slider(self):
        page = self.page
        path = self.png()
        page.photograph(path)
        page.settings()
        page.set("steps", 12)
        page.say("make it sepia", Keys.ENTER)
        page.until(lambda: page.shown("preview") and page.shown("tag-preview"), "a preview is shown")
        self.assertEqual(page["tag-preview"].text, "approximate preview")
        self.assertRegex(page["preview"].get_attribute("src"), r"^data:image/jpeg;base64,")
        self.assertRegex(page["progress-text"].text, r"^Step \d+ of 12 · about \d+ s left$")
        self.assertGreater(float(page["bar"].get_property("value")), 0)
        result = page.result()
        self.assertFalse(page.shown("preview"))
        count = page.differences(page.address(path), result)
        self.assertEqual(count["sizes"][:2], count["sizes"][2:])  # the switch "full size" is on
        self.assertGreater(count["left"] + count["right"], 0.9 * count["sizes"][0] * count["sizes"][1])
        self.assertIn("make it sepia", page["caption"].text)
        self.assertRegex(page["caption-facts"].text, r"text 1 · image 1 · 12 steps · seed \d+")
        self.assertIn("Ready after", page["live"].get_attribute("textContent"))

        page["wipe"].send_keys(Keys.ARROW_RIGHT * 30)
        self.assertEqual(page["wipe"].get_attribute("aria-valuetext"), "30 % before, 70 % after")
        self.assertIn("30%", page.script("return getComputedStyle(document.getElementById('after-clip')).clipPath"))
        page["wipe"].send_keys(Keys.END)
        self.assertEqual(page["wipe"].get_property("value"), "100")
        ActionChains(page.driver).move_to_element(page["wipe"]).click().perform()
        self.assertAlmostEqual(int(page["wipe"].get_property("value")), 50, delta=2)

        # Another edit goes on from the result.
        page["go-on"].click()
        page.until(lambda: not page.shown("wipe"), "the result is the photograph")
        self.assertIn("sepia", page["caption-title"].text)

    def test_without_full_size_results_are_as_the_model_draws_them(self):
        page = self.page
        page.photograph(self.photograph)
        page.settings()
        page["set-full_size"].click()
        page.say("make it night", Keys.ENTER)
        page.result()
        width, height = page.script("const a = document.getElementById('after'); return [a.naturalWidth, a.naturalHeight]")
        self.assertEqual(max(width, height), 256)
        # Before and after are parts of one frame.
        boxes = page.script("""return ['before', 'after'].map((id) => {
          const box = document.getElementById(id).getBoundingClientRect();
          return [box.x, box.y, box.width, box.height]; })""")
        self.assertEqual(boxes[0], boxes[1])
        self.assertAlmostEqual(boxes[1][2] / boxes[1][3], width / height, places=2)

    def test_cancel(self):
        page = self.page
        page.photograph(self.photograph)
        page.settings()
        page.set("steps", 200)
        page.say("make it winter", Keys.ENTER)
        page.begun()
        page["cancel"].click()
        page.until(lambda: page.shown("go"), "the edit is over", 30)
        self.assertIn("The edit was cancelled.", page["notice"].text)
        self.assertTrue(page.shown("print"))
        self.assertFalse(page.shown("wipe"))
        self.assertEqual(page.all("#film li"), [])

    def test_the_place_in_the_queue(self):
        page, other = self.page, self.page_of(self.service)
        for one in (page, other):
            one.photograph(self.photograph)
        page.settings()
        page.set("steps", 200)
        page.say("make it winter", Keys.ENTER)
        page.begun()
        other.say("make it red", Keys.ENTER)
        other.until(lambda: "Waiting; yours is the next." in other["progress-text"].text, "the place in the queue is said")
        page["cancel"].click()
        page.over()
        other.result()

    def test_a_grid_of_seeds(self):
        page = self.page
        page.photograph(self.photograph)
        page.settings()
        page.set("count", 3)
        page.set("seed", 40)
        page.say("make it a watercolor", Keys.ENTER)
        page.until(lambda: len(page.all("#sheet .cell:not(:disabled)")) == 1, "one result is there")
        self.assertEqual(len(page.all("#sheet .cell")), 3)
        page.over()
        cells = page.all("#sheet .cell:not(:disabled)")
        self.assertEqual([cell.get_attribute("aria-label") for cell in cells],
                         [f"Result {i + 1}, seed {40 + i}" for i in range(3)])
        cells[1].click()
        page.result()
        self.assertIn("seed 41", page["caption-facts"].text)
        page["reuse"].click()
        self.assertEqual([page["set-seed"].get_property("value"), page["set-count"].get_property("value")], ["41", "1"])
        page["to-sheet"].click()
        page.until(lambda: page.shown("sheet"), "all results are shown")

    def test_a_mask_leaves_the_rest_as_it_is(self):
        page = self.page
        path = self.png()
        page.photograph(path)
        page["mask-open"].click()
        for side, percent in (("left", 50), ("top", 0), ("width", 50), ("height", 100)):
            page[f"rectangle-{side}"].clear()
            page[f"rectangle-{side}"].send_keys(str(percent))
        page["rectangle-apply"].click()
        self.assertIn("50 % of the picture is painted", page["mask-state"].text)
        page["mask-done"].click()
        page.say("make it night", Keys.ENTER)
        count = page.differences(page.address(path), page.result())
        self.assertEqual(count["sizes"][:2], count["sizes"][2:])
        self.assertEqual(count["left"], 0)
        self.assertGreater(count["right"], 0.9 * count["sizes"][0] * count["sizes"][1] / 2)

    def test_brush(self):
        page = self.page
        page.photograph(self.photograph)
        page["mask-open"].click()
        share = lambda: int(re.match(r"(\d+) %", page["mask-state"].text or "0 %").group(1))
        stroke = lambda: ActionChains(page.driver).move_to_element_with_offset(page["mask"], -150, 0).click_and_hold() \
            .move_by_offset(300, 0).release().perform()
        self.assertIn("Nothing is painted yet", page["mask-state"].text)
        page.script("document.getElementById('brush-size').value = 30")
        stroke()
        painted = share()
        self.assertGreater(painted, 5)
        self.assertLess(painted, 60)
        page["mask-invert"].click()
        self.assertAlmostEqual(share(), 100 - painted, delta=2)
        page["mask-whole"].click()
        self.assertEqual(share(), 100)
        page.all("input[name=tool]")[1].click()
        stroke()
        self.assertAlmostEqual(share(), 100 - painted, delta=2)
        page["mask-clear"].click()
        self.assertIn("Nothing is painted yet", page["mask-state"].text)

    def test_settings_come_back_from_a_result(self):
        page = self.page
        page.photograph(self.photograph)
        page.settings()
        for name, value in (("text_scale", 1.25), ("image_scale", 1.1), ("steps", 4), ("seed", 123456789), ("negative", "blur")):
            page.set(name, value)
        page["set-sampler"].find_element(By.CSS_SELECTOR, "option[value=heun]").click()
        page.say("turn it into a sketch", Keys.ENTER)
        page.result()
        file = self.downloaded(page["download"].click)
        self.assertRegex(file.name, r"turn-it-into-a-sketch-123456789\.png$")

        page.open()
        page.settings()
        self.assertEqual(page["set-steps"].get_property("value"), str(self.advised_steps))
        page["file"].send_keys(str(file))
        page.until(lambda: "are in place" in page["notice"].text, "the settings are read")
        values = {name: page[f"set-{name}"].get_property("value")
                  for name in ("text_scale", "image_scale", "steps", "seed", "negative", "sampler")}
        self.assertEqual(values, {"text_scale": "1.25", "image_scale": "1.1", "steps": "4", "seed": "123456789",
                                  "negative": "blur", "sampler": "heun"})
        self.assertEqual(page["prompt"].get_property("value"), "turn it into a sketch")
        self.assertTrue(page["set-full_size"].is_selected())
        # Its photograph is in the history, so that the same picture can be made again.
        self.assertEqual(page["caption-title"].text, self.photograph.name)
        page["go"].click()
        again = page.result()
        self.assertEqual({**page.differences(page.address(file), again), "sizes": 0}, {"sizes": 0, "left": 0, "right": 0})
        page["file"].send_keys(str(file))
        page.until(lambda: "are in place" in page["notice"].text, "the settings are read")
        page.all("#notice button")[0].click()
        page.until(lambda: page["caption-title"].text == file.name, "it is the photograph")

    def test_errors_are_next_to_what_caused_them(self):
        page = self.page
        page["go"].click()
        self.assertEqual(page["problem-image"].text, "Choose a photograph first.")
        page.photograph(self.photograph)
        self.assertFalse(page.shown("problem-image"))
        page["go"].click()
        self.assertIn("Write what should change", page["problem-prompt"].text)
        self.assertEqual(page["prompt"].get_attribute("aria-invalid"), "true")
        page.settings()
        page.set("steps", 1000000)
        page["settings-close"].click()
        page.say("make it red", Keys.ENTER)
        page.until(lambda: page.shown("problem-steps"), "the service's sentence is shown", 20)
        self.assertRegex(page["problem-steps"].text, "^Expected .*, found 1000000")
        self.assertEqual(page.driver.switch_to.active_element, page["set-steps"])
        self.assertEqual(page["set-steps"].get_attribute("aria-invalid"), "true")
        page.set("steps", 2)
        self.assertFalse(page.shown("problem-steps"))
        page.set("text_scale", 3)
        self.assertIn("Outside of 0.75 to 1.5", page["advice-text_scale"].text)
        page.say("add a dragon")
        self.assertIn("knows only the edits", page["advice-prompt"].text)
        broken = self.folder / "broken.jpg"
        broken.write_bytes(b"no picture")
        page["file"].send_keys(str(broken))
        page.until(lambda: "broken.jpg is not a picture" in page["problem-image"].text, "the file is refused", 10)

    def test_history_survives_a_reload(self):
        page = self.page
        page.photograph(self.photograph)
        page.settings()
        page.set("seed", 77)
        page.say("make it purple", Keys.ENTER)
        page.result()
        page.until(lambda: len(page.all("#film li")) == 1, "the edit is in the history", 10)
        time.sleep(0.5)  # until the browser has written it
        page.open()
        self.assertTrue(page.shown("invitation"))
        page.all("#film li button")[0].click()
        page.result()
        self.assertIn("seed 77", page["caption-facts"].text)
        page["reuse"].click()
        page.settings()
        self.assertEqual(page["prompt"].get_property("value"), "make it purple")
        self.assertEqual(page["set-seed"].get_property("value"), "77")
        page["clear-history"].click()
        page.all(".confirm button")[0].click()
        page.until(lambda: page.all("#film li") == [], "the history is empty", 10)
        page.open()
        self.assertEqual(page.all("#film li"), [])

    def test_comparison(self):
        page = self.page
        page.photograph(self.photograph)
        page["tab-compare"].click()
        for name, values in (("text-scales", "0.75, 1, x"), ("image-scales", "1 1.2")):
            page[name].clear()
            page[name].send_keys(values)
        page.say("make it foggy", Keys.ENTER)
        self.assertIn("Expected numbers", page["problem-text_scales"].text)
        page["text-scales"].clear()
        page["text-scales"].send_keys("0.75, 1, 1.25", Keys.ENTER)
        page.begun()
        page.over()
        self.assertEqual([cell.text for cell in page.all("#sweep thead th")], ["image 1", "image 1.2"])
        self.assertEqual([cell.text for cell in page.all("#sweep tbody th")], ["text 0.75", "text 1", "text 1.25"])
        cells = page.all("#sweep .cell:not(:disabled)")
        self.assertEqual(len(cells), 6)
        self.assertEqual(cells[5].get_attribute("aria-label"), "Picture with text scale 1.25, image scale 1.2")
        sources = [cell.find_element(By.TAG_NAME, "img").get_attribute("src") for cell in cells]
        weak, strong = page.differences(sources[0], sources[5]), page.differences(sources[2], sources[2])
        self.assertGreater(weak["left"] + weak["right"], 1000)
        self.assertEqual(strong["left"] + strong["right"], 0)
        cells[5].click()
        page.until(lambda: page.shown("large"), "the picture is shown large", 5)
        self.assertIn("text 1.25 · image 1.2", page["large-facts"].text)
        page["large-use"].click()
        self.assertIn("text 1.25 · image 1.2", page["caption-facts"].text)
        page["tab-compare"].click()
        self.assertEqual(len(page.all("#sweep .cell")), 6)
        page["tab-edit"].click()
        self.assertEqual(page["tab-edit"].get_attribute("aria-selected"), "true")
        page.settings()
        self.assertEqual([page["set-text_scale"].get_property("value"), page["set-image_scale"].get_property("value")],
                         ["1.25", "1.2"])

    def test_telephone(self):
        page = self.page_of(self.service, width=360, height=740, phone=True)
        states = []
        check = lambda state: states.append(state) if page.wide() else None
        check("empty")
        page.photograph(self.photograph)
        page["mask-open"].click()
        check("mask")
        page["mask-done"].click()
        page.settings()
        page.set("count", 2)
        page.set("text_scale", 1.4)
        check("settings")
        page.say("make it autumn", Keys.ENTER)
        page.begun()
        check("running")
        page.over()
        check("sheet")
        page.all("#sheet .cell")[0].click()
        page.result()
        check("result")
        page["tab-compare"].click()
        page["text-scales"].clear()
        page["text-scales"].send_keys("0.8 1 1.2")
        page["go"].click()
        page.over()
        check("comparison")
        page.all("#sweep .cell")[0].click()
        page.until(lambda: page.shown("large"), "the picture is shown large", 5)
        check("large")
        self.assertEqual(states, [])

    def test_keyboard_alone(self):
        page = self.page
        page.photograph(self.photograph)  # a system's window for choosing files is not the page's
        page.script("document.activeElement.blur()")

        def tab_to(name, most=80):
            for _ in range(most):
                ActionChains(page.driver).send_keys(Keys.TAB).perform()
                active = page.driver.switch_to.active_element
                if active.tag_name == "body":  # after the last and before the first
                    continue
                style = page.script("""const s = getComputedStyle(arguments[0].closest('.print') ?? arguments[0]);
                                       return s.outlineStyle + ' ' + s.outlineWidth""", active)
                self.assertRegex(style, r"^solid [23]px$", f"{active.get_attribute('outerHTML')[:80]} shows no focus")
                if active.get_attribute("id") == name:
                    return
            raise AssertionError(f"expected to reach {name} with the Tab key")

        keys = lambda *words: ActionChains(page.driver).send_keys(*words).perform()
        tab_to("tab-edit")
        keys(Keys.ARROW_RIGHT)
        self.assertEqual(page["tab-compare"].get_attribute("aria-selected"), "true")
        keys(Keys.ARROW_LEFT)
        self.assertEqual(page["tab-edit"].get_attribute("aria-selected"), "true")
        tab_to("mask-open")
        keys(Keys.ENTER)
        tab_to("rectangle-apply")
        keys(Keys.ENTER)
        self.assertIn("25 % of the picture is painted", page["mask-state"].text)
        tab_to("prompt")
        keys("make it green")
        tab_to("settings-open")
        keys(Keys.ENTER)
        tab_to("set-steps")
        keys(Keys.ARROW_UP)
        self.assertEqual(page["set-steps"].get_property("value"), str(self.advised_steps + 1))
        keys(Keys.ENTER)
        page.result()
        tab_to("wipe")
        keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        self.assertEqual(page["wipe"].get_property("value"), "2")
        tab_to("download")

    def test_everything_has_a_name(self):
        page = self.page
        page.photograph(self.photograph)
        page.settings()
        page["mask-open"].click()
        for one in page.all("button, a, input, select, textarea, progress"):
            if one.is_displayed():
                self.assertTrue(one.accessible_name, one.get_attribute("outerHTML"))

    def test_dropped_and_pasted_photographs(self):
        page = self.page
        give = """
          const [kind, name, address] = arguments;
          const bytes = Uint8Array.from(atob(address.split(',')[1]), (c) => c.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], name, {type: 'image/jpeg'}));
          document.dispatchEvent(kind === 'paste' ? new ClipboardEvent('paste', {clipboardData: data, bubbles: true})
                                                  : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));"""
        address = page.address(self.photograph)
        page.script(give, "dragenter", "dropped.jpg", address)
        self.assertTrue(page.shown("veil"))
        page.script(give, "drop", "dropped.jpg", address)
        page.until(lambda: page.shown("print") and page["caption-title"].text == "dropped.jpg", "the file is taken", 10)
        self.assertFalse(page.shown("veil"))
        page.script(give, "paste", "pasted.jpg", address)
        page.until(lambda: page["caption-title"].text == "pasted.jpg", "the file is taken", 10)

    def test_colours(self):
        page = self.page
        lightness = lambda: page.script("""return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]""")
        self.assertGreater(int(lightness()), 200)
        page["theme"].click()
        page["theme"].click()
        self.assertEqual(page["theme"].text, "Dark")
        self.assertLess(int(lightness()), 50)
        page.open()
        self.assertLess(int(lightness()), 50)

    def test_a_lost_connection(self):
        service = service_of(self.program, self.source)
        self.addCleanup(service.__exit__)
        page = self.page_of(service)
        page.photograph(self.photograph)
        page.settings()
        page.set("steps", 200)
        page.say("make it winter", Keys.ENTER)
        page.begun()
        service.end(signal.SIGKILL)
        page.until(lambda: "connection to the studio was lost" in page["notice"].text, "the loss is said", 30)
        again = service_of(self.program, self.source, port=service.port)
        self.addCleanup(again.__exit__)
        page.until(lambda: "no longer has this edit" in page["notice"].text, "the restart is said", 30)
        page.set("steps", 2)
        page.all("#notice button")[0].click()
        page.result()

    def test_a_full_queue(self):
        service = service_of(self.program, self.source, "--queue", "1")
        self.addCleanup(service.__exit__)
        page = self.page_of(service)
        page.photograph(self.photograph)
        settings = {"instruction": "make it red", "steps": 200}
        sent = [service.submit(self.photograph.read_bytes(), settings)[1]["id"]]
        page.until(lambda: service.json("GET", f"/api/jobs/{sent[0]}")[1]["state"] == "running", "the first edit begins")
        sent.append(service.submit(self.photograph.read_bytes(), settings)[1]["id"])
        page.say("make it red", Keys.ENTER)
        page.until(lambda: re.search(r"Try again in \d+ s\.", page["notice"].text), "when to try again is said", 20)
        for job in sent:
            service.ask("DELETE", f"/api/jobs/{job}")
        page.until(lambda: "You can try again now." in page["notice"].text, "the time is over", 60)
        page.all("#notice button")[0].click()
        page.result()

    def test_a_photograph_larger_than_the_service_takes(self):
        service = service_of(self.program, self.source, "--max-megapixels", "0.05")
        self.addCleanup(service.__exit__)
        page = self.page_of(service)
        page.photograph(self.photograph)
        self.assertRegex(page["notice"].text, r"was scaled down to \d+ × \d+: this studio takes at most 0.05 million pixels")
        width, height = map(int, re.search(r"(\d+) × (\d+)", page["caption-facts"].text).groups())
        self.assertLessEqual(width * height, 50000)
        page.say("make it red", Keys.ENTER)
        page.result()
        self.assertIn(f"{width} × {height}", page["caption-facts"].text)

    def test_a_reload_during_an_edit(self):
        page = self.page
        path = self.png()
        page.photograph(path)
        page["mask-open"].click()
        page["rectangle-apply"].click()
        page["mask-done"].click()
        page.settings()
        page.set("steps", 60)
        page.set("seed", 5)
        page.say("make it underwater", Keys.ENTER)
        page.begun()
        page.open()
        page.until(lambda: page.shown("print"), "the photograph is back", 10)
        page.begun()
        self.assertEqual(page["prompt"].get_property("value"), "make it underwater")
        page.result()
        self.assertIn("60 steps · seed 5", page["caption-facts"].text)
        self.assertIn("Editing a part", page["mask-open"].text)
        page.until(lambda: len(page.all("#film li")) == 1, "the edit is in the history", 10)
        page.open()
        self.assertTrue(page.shown("invitation"))

    def test_a_token(self):
        service = service_of(self.program, self.source, "--token", "open-sesame-0123456789")
        self.addCleanup(service.__exit__)
        page = Page(self.page.driver, service.address + "/")
        page.driver.get(page.url)
        page.until(lambda: page.shown("entry"), "the token is asked for", 20)
        page["token"].send_keys("wrong", Keys.ENTER)
        page.until(lambda: page.shown("problem-token"), "the wrong token is refused", 20)
        page["token"].clear()
        page["token"].send_keys("open-sesame-0123456789", Keys.ENTER)
        page.until(lambda: page.all("#suggestions button"), "the model is known", 20)
        page.photograph(self.photograph)
        page.settings()
        page.set("steps", 1)
        page.say("make it red", Keys.ENTER)
        page.result()


def screenshots(program, source, folder):
    """The pictures of the documentation: light, dark, and on a telephone."""
    service = service_of(program, source)
    picture = source / "docs/images/quickstart.jpg"
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for name, how in (("studio", {}), ("studio-dark", {"dark": True}),
                              ("studio-phone", {"width": 360, "height": 740, "phone": True})):
                driver = browser(scratch, **how)
                page = Page(driver, service.address + "/").open()
                page.photograph(picture)
                page.say("make it snowy", Keys.ENTER)
                page.result()
                if name == "studio-dark":
                    page["tab-compare"].click()
                    page["text-scales"].clear()
                    page["text-scales"].send_keys("0.5, 1, 1.5")
                    page["image-scales"].clear()
                    page["image-scales"].send_keys("1, 1.1, 1.2")
                    page.say("make it sunset", Keys.ENTER)
                    page.begun()
                    page.over()
                else:
                    page.script("document.activeElement.blur(); const wipe = document.getElementById('wipe');"
                                "wipe.value = 45; wipe.dispatchEvent(new Event('input'))")
                time.sleep(1)
                shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 80})
                path = folder / f"{name}.webp"
                path.write_bytes(base64.b64decode(shot["data"]))
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
                driver.quit()
        finally:
            service.__exit__()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("tests", nargs="*", help="names of tests; all if none is given")
    parser.add_argument("--screenshots", type=pathlib.Path, help="folder for the pictures of the documentation")
    arguments = parser.parse_args()
    source, program = arguments.source.resolve(), arguments.programs.resolve() / "studio"
    if arguments.screenshots:
        return screenshots(program, source, arguments.screenshots)
    data = pathlib.Path(os.environ.get("IP2P_TEST_DATA", source.parent / "shared/data")) / "coco_mini/000000129648.jpg"
    StudioTest.program, StudioTest.source = program, source
    StudioTest.photograph = data if data.exists() else source / "docs/images/quickstart.jpg"
    unittest.main(argv=[sys.argv[0], *(f"StudioTest.{name}" for name in arguments.tests)], verbosity=2)


if __name__ == "__main__":
    main()
