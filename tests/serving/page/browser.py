"""Opens the page in chromium, and watches what it sends and says."""

import contextlib
import pathlib
import re
import time
from urllib.parse import urlsplit

from playwright.sync_api import expect

PICTURES = pathlib.Path(__file__).parents[3] / "runs" / "page"
DESKTOP, PHONE, SMALLEST = (
    {"width": 1440, "height": 900},
    {"width": 390, "height": 844},
    {"width": 360, "height": 640},
)


class Visit:
    """A page in a context of its own.

    Args:
      context: the browser's context.
      address: the address of the server.
    """

    def __init__(self, context, address):
        self.address, self.page = address, context.new_page()
        self.said, self.sent, self.waiting = [], [], set()
        self.page.set_default_timeout(5000)
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", self._start)
        for event in ("requestfinished", "requestfailed"):
            self.page.on(event, lambda request: self.waiting.discard(request))

    def open(self, state=""):
        """Opens a state, and waits for its pictures."""
        self.page.goto(f"{self.address}{state}")
        self.settle()
        return self

    def _start(self, request):
        self.sent.append(request)
        self.waiting.add(request)

    def settle(self):
        """Waits until nothing has been on its way for a while."""
        quiet, last = 0, time.monotonic() + 60
        while quiet < 4:
            assert time.monotonic() < last, [request.url for request in self.waiting]
            self.page.wait_for_timeout(20)
            quiet = 0 if self.waiting or self.find("[aria-busy]").count() else quiet + 1

    def check_quiet(self, allowed=()):
        """Checks that the console has nothing but what is allowed, and that no other host was asked."""
        assert [line for line in self.said if not any(re.search(each, line) for each in allowed)] == []
        hosts = {urlsplit(request.url).netloc for request in self.sent}
        assert hosts == {urlsplit(self.address).netloc}

    def picture(self, name):
        """Keeps a picture of the screen."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")

    # what a person sees

    def find(self, selector, **options):
        return self.page.locator(selector, **options)

    @property
    def state(self):
        return self.page.evaluate("location.hash")

    @property
    def results(self):
        """The rows of the results, in order."""
        return [int(card.get_attribute("data-item")) for card in self.find("#results a").all()]

    def notes(self, row):
        return self.find(f'#results a[data-item="{row}"] .notes').inner_text()

    @property
    def changes(self):
        return [tag.evaluate("node => node.lastChild.data") for tag in self.find("#changes li > .to").all()]

    def searches(self):
        return [request for request in self.sent if request.url.endswith("/api/search")]

    @property
    def focused(self):
        return self.page.evaluate(
            "(document.activeElement.id || document.activeElement.dataset.key"
            " || document.activeElement.dataset.item || document.activeElement.tagName)"
        )

    # what a person does

    def pick(self, row):
        self.find(f'#gallery-list a[data-item="{row}"]').click()
        expect(self.find("#results a").first).to_be_visible()
        self.settle()

    def say(self, words):
        self.find("#words").fill(words)
        self.page.keyboard.press("Enter")
        self.settle()

    def chip(self, attribute):
        return self.find(f'#attributes button[data-key="{attribute}"]')

    def choose(self, attribute, value):
        self.chip(attribute).click()
        self.find(f'#values button[data-key="{value}"]').click()
        self.settle()

    def offered(self):
        """The values that the open panel offers, with their counts."""
        rows = self.find("#values .option").all()
        counts = {}
        for row in rows:
            number = row.locator(".count")
            counts[row.get_attribute("data-key")] = (
                int(number.evaluate("n => n.firstChild.data")) if number.count() else None
            )
        return counts


@contextlib.contextmanager
def visiting(browser, address, *, size=DESKTOP, dark=False, still=False, allowed=(), script=None, **options):
    """Opens a visit, and checks at its end that the console was quiet."""
    context = browser.new_context(
        viewport=size,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce" if still else "no-preference",
        **options,
    )
    if script:
        context.add_init_script(script)
    visit = Visit(context, address)
    try:
        yield visit
        visit.check_quiet(allowed)
    finally:
        context.close()
