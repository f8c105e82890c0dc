"""The page of a user study in Chromium: voting, reloading, double clicks, a stopped server, a shared device."""

import pytest

from src.voting.questions import read_study
from src.voting.votes import Votes

pytestmark = pytest.mark.browser

RED_OF = {60: "PatchMatch", 120: "lbam", 180: "pconv"}  # colours of the fixture study_pictures
SHOWN = """() => [...document.querySelectorAll("label.card img")].map(image => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.drawImage(image, 0, 0);
    return canvas.getImageData(0, 0, 1, 1).data[0];
})"""


ENLARGED = """async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 256, height: 192 });
    const images = [...document.querySelectorAll(".card img")];
    for (const image of images) image.src = canvas.toDataURL();
    await Promise.all(images.map(image => image.decode()));
    window.dispatchEvent(new Event("resize"));
}"""


@pytest.fixture(scope="module")
def served(serve, study_pictures, tmp_path_factory):
    directory = tmp_path_factory.mktemp("served")
    server = serve("user_study", f"images={study_pictures}", "results=votes.db", cwd=directory)
    return server.address, directory / "votes.db"


def opened(person, address, begin=True):
    page = person.new_page()
    page.goto(address)
    page.wait_for_selector("h1:visible")
    if begin:
        page.click("[data-do=begin]")
        at(page, 1)
    return page


def at(page, number, count=3):
    page.locator("[data-part=number]", has_text=f"{number} of {count}").wait_for()


def shown(page):
    return [RED_OF[red] for red in page.evaluate(SHOWN)]


def pick(page, method):
    page.locator("label.card").nth(shown(page).index(method)).click()


def thanked(page):
    page.wait_for_selector(".thanks:visible")


def new_votes(path, before):
    table = Votes(path).table()
    return table[~table["voter"].isin(before)]


@pytest.fixture
def votes(served):
    """Return a function that returns the votes of this test's voters."""
    before = set(Votes(served[1]).table()["voter"])
    return lambda: new_votes(served[1], before)


def test_after_reloads_and_double_clicks_each_answer_is_stored_once(person, served, votes, study_pictures):
    page = person().new_page()
    hosts = set()
    page.on("request", lambda request: hosts.add(request.url.partition("?")[0].split("/")[2]))
    page.goto(served[0])
    page.wait_for_selector("h1:visible")
    assert page.locator(".go:visible").inner_text() == "Start: 3 questions"
    assert all(word in page.locator("dl").inner_text() for word in ("Context", "Structure", "Details"))
    page.click("[data-do=begin]")
    at(page, 1)
    assert page.locator("[type=submit]").is_disabled()
    seen = [shown(page)]
    pick(page, "pconv")
    pick(page, "lbam")  # changed my mind
    page.dblclick("[type=submit]")
    at(page, 2)
    assert page.locator("[type=submit]").is_disabled()
    seen.append(shown(page))
    pick(page, "pconv")
    page.reload()
    at(page, 2)
    assert shown(page) == seen[1]
    assert page.locator("label.card :checked").count() == 0
    pick(page, "PatchMatch")
    # Two submissions before the first one is answered.
    page.evaluate("() => { const form = document.querySelector('form'); form.requestSubmit(); form.requestSubmit(); }")
    at(page, 3)
    seen.append(shown(page))
    dom = page.content().lower()
    assert not any(secret in dom for secret in ("lbam", "pconv", "patchmatch", "photo_0", str(study_pictures)))
    pick(page, "lbam")
    page.click("[type=submit]")
    thanked(page)
    page.reload()
    thanked(page)

    kept = votes()
    assert kept["voter"].nunique() == 1
    assert kept["method"].tolist() == ["lbam", "PatchMatch", "lbam"]
    assert kept["shown"].tolist() == seen
    study, voter = read_study(study_pictures, None, 0), kept["voter"].iloc[0]
    assert kept["question"].tolist() == [question.name for question in study.questions_for(voter)]
    assert kept["seconds"].between(0.001, 300).all()
    assert hosts - {""} == {served[0].removeprefix("http://")}  # no request to another host


def test_two_people_vote_at_once_and_one_has_two_tabs(person, served, votes):
    ann, bob = person(), person()
    pages = {"lbam": opened(ann, served[0]), "pconv": opened(bob, served[0])}
    second_tab = opened(ann, served[0])
    for number in (1, 2, 3):
        for method, page in pages.items():
            at(page, number)
            pick(page, method)
        for page in pages.values():
            page.click("[type=submit]")
        at(pages["lbam"], number + 1) if number < 3 else thanked(pages["lbam"])
        if number == 2:  # it still shows the first question: its late answer is ignored, and the page continues
            pick(second_tab, "PatchMatch")
            second_tab.click("[type=submit]")
            at(second_tab, 3)
    for page in pages.values():
        thanked(page)
    pick(second_tab, "PatchMatch")
    second_tab.click("[type=submit]")
    thanked(second_tab)
    by_voter = votes().groupby("voter")["method"].agg(list)
    assert sorted(by_voter) == [["lbam"] * 3, ["pconv"] * 3]


def test_a_tab_whose_token_comes_late_joins_the_voter_of_the_first(person, served):
    ann, held, tokens = person(), [], []

    def hold(route):
        held.append(route)

    ann.route("**/call/join", hold)
    ann.on("request", lambda request: request.url.endswith("/call/ask") and tokens.append(request.post_data_json))
    pages = [ann.new_page() for _ in range(2)]
    for page in pages:
        page.goto(served[0])
    while len(held) < 2:
        pages[0].wait_for_timeout(50)
    for position, route in enumerate(held):  # one after the other: localStorage has no lock between tabs
        page = route.request.frame.page
        if position == 1:  # what one tab stores reaches the other after a while
            page.wait_for_function("localStorage.length > 0")
        route.continue_()
        page.wait_for_selector("h1:visible")
    assert len(tokens) == 2
    assert len(set(tokens)) == 1


def test_the_page_works_with_the_keyboard(person, served, votes):
    page = opened(person(), served[0], begin=False)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for number in (1, 2, 3):
        at(page, number)
        wanted = shown(page)[2]
        page.keyboard.press("Tab")
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        at(page, number + 1) if number < 3 else thanked(page)
        assert votes()["method"].iloc[-1] == wanted


@pytest.mark.parametrize(
    "device",
    [
        {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "is_mobile": True, "has_touch": True},
        {"viewport": {"width": 360, "height": 640}, "device_scale_factor": 2.625, "is_mobile": True, "has_touch": True},
        {"viewport": {"width": 1366, "height": 650}},
        {"viewport": {"width": 2560, "height": 1300}},
    ],
    ids=["phone", "small_phone", "laptop", "desktop"],
)
def test_images_fit_are_large_and_have_integer_pixel_scale(person, served, device):
    page = opened(person(**device), served[0])
    ratio, width = device.get("device_scale_factor", 1), device["viewport"]["width"]
    boxes = [image.bounding_box() for image in page.locator(".card img").all()]
    assert len(boxes) == 4
    for box in boxes:
        times = box["width"] * ratio / 16
        assert abs(times - round(times)) < 0.02
        assert box["width"] / box["height"] == pytest.approx(16 / 12, abs=0.01)
        assert box["width"] >= min(250, 0.42 * width)
        assert 0 <= box["x"] <= width - box["width"]
    assert page.locator(".card img").first.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # The papers' image size: large on a phone, too, and at least its own size if there is room.
    page.evaluate(ENLARGED)
    least = min(256, 0.42 * width)
    boxes = [image.bounding_box() for image in page.locator(".card img").all()]
    assert all(box["width"] >= least for box in boxes)
    assert len({box["x"] for box in boxes}) > 1  # columns
    page.locator("label.card").last.scroll_into_view_if_needed()
    page.locator("label.card").last.click()
    page.click("[type=submit]")
    at(page, 2)


def test_an_answer_survives_a_server_restart_and_a_device_can_be_shared(person, serve, study_pictures, tmp_path):
    options = [f"images={study_pictures}", "questions=2", "shared_device=true"]
    first = serve("user_study", *options, cwd=tmp_path)
    page = person().new_page()
    page.goto(first.address)
    page.click("[data-do=begin]")
    at(page, 1, 2)
    pick(page, "lbam")
    first.process.kill()
    page.click("[type=submit]")
    page.wait_for_selector(".problem:visible")
    assert "The server can't be reached" in page.locator(".problem").inner_text()
    assert page.locator("label.card :checked").count() == 1
    serve("user_study", *options, cwd=tmp_path, port=int(first.address.rpartition(":")[2]))
    page.click("[data-do=again]")
    at(page, 2, 2)
    assert page.locator(".problem").is_hidden()
    pick(page, "lbam")
    page.click("[type=submit]")
    thanked(page)
    page.click("[data-do=another]")
    page.click("[data-do=begin]")
    at(page, 1, 2)
    pick(page, "pconv")
    page.click("[type=submit]")
    at(page, 2, 2)
    page.once("dialog", lambda dialog: dialog.dismiss())  # by mistake
    page.click("[data-do=another]")
    at(page, 2, 2)
    by_voter = Votes(tmp_path / "votes.db").table().groupby("voter")["method"].agg(list)
    assert sorted(by_voter) == [["lbam", "lbam"], ["pconv"]]
