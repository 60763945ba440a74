"""What a page must be whatever it shows: whole, labelled, and without a script of its own."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
CONTROLS = {"input", "select", "textarea"}


class Page(HTMLParser):
    """A page that was read: its elements, texts, and `faults`."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.faults: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]
        self._check_ids()
        self._check_labels()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.elements.append((tag, given))
        if len(given) != len(attributes):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.faults += [
            f"<{tag} {name}> is a style or a script of the page's own"
            for name in given
            if name == "style" or name.startswith("on")
        ]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.faults.append(f"<{tag}> inside the page")
        if tag == "th" and not given.get("scope"):
            self.faults.append("<th> without a scope")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]}")
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.elements if name == tag]

    def value(self, name: str) -> str:
        """Return the value of the first field of that name."""
        return next(each["value"] or "" for each in self.all("input") if each.get("name") == name)

    def _check_ids(self) -> None:
        ids = [given["id"] for _, given in self.elements if given.get("id")]
        self.faults += [f"id {each!r} is there {ids.count(each)} times" for each in set(ids)
                        if ids.count(each) > 1 and each != "n-0"]  # fmt: skip

    def _check_labels(self) -> None:
        labelled = {given.get("for") for given in self.all("label")}
        for tag, given in self.elements:
            is_labelled = given.get("aria-label") or given.get("id") in labelled
            if tag in CONTROLS and given.get("type") != "hidden" and not is_labelled:
                self.faults.append(f"<{tag} name={given.get('name')!r}> has no label")
