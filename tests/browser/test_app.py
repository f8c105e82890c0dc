"""The page in Chromium: open an image, paint, fill, edit edges, download, error messages, and a phone."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from src.prediction import load

pytestmark = pytest.mark.browser

WIDTH, HEIGHT = 120, 90
LIT = "element => getComputedStyle(element).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
DROPPED = """(board, {type, name, text}) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(text), letter => letter.charCodeAt(0))], name, {type: "image/png"}));
    const event = type === "paste" ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
        : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
    board.dispatchEvent(event);
}"""


def as_file(image, name="my photo.png", **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


@pytest.fixture(scope="module")
def photo():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([x * 2, y * 2, 120 + 60 * np.sin(x / 9)], -1).astype(np.uint8))


@pytest.fixture
def opened(person, app_server):
    """`opened(**device)` opens the page on a device; the test fails if its script raises an error."""
    errors = []

    def opened(**device):
        page = person(**device).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(app_server.address)
        page.wait_for_selector(".example img")
        return page

    yield opened
    assert not errors


def upload(page, file):
    page.set_input_files("[name=image]", file)
    page.wait_for_selector(".board canvas:visible")


def paint(page, *points):
    """Drag through points (x, y), as fractions of the image's width and height."""
    page.locator(".board canvas").scroll_into_view_if_needed()
    box = page.locator(".board canvas").bounding_box()
    points_px = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*points_px[0])
    page.mouse.down()
    for point in points_px[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def tick(page, *methods):
    for box in page.locator(".methods input").all():
        box.set_checked(box.get_attribute("value") in methods)


def fill(page, count):
    page.click("[type=submit]")
    page.wait_for_function(f"document.querySelectorAll('.card[data-state=done]').length === {count}")
    page.wait_for_selector("[type=submit]:visible")


def downloaded(page, selector):
    with page.expect_download() as download:
        page.click(selector)
    return download.value


def read_image(download):
    return Image.open(io.BytesIO(download.path().read_bytes()))


def error_message(page):
    page.wait_for_selector(".error:visible")
    return page.inner_text(".error span")


def test_downloads_equal_the_results_of_predict(opened, app_server, untrained, photo, commands, tmp_path):
    page = opened(viewport={"width": 1280, "height": 900})
    hosts = set()
    page.on("request", lambda request: hosts.add(request.url.partition("?")[0].split("/")[2]))
    upload(page, as_file(photo))
    paint(page, (0.2, 0.3), (0.5, 0.6), (0.4, 0.2))
    assert "% painted" in page.inner_text(".hint")
    tick(page, "telea", "demo/lbam", "biharmonic")
    fill(page, 3)
    assert page.locator(".card b").all_inner_texts() == ["demo/lbam", "biharmonic", "telea"]
    assert all(text.endswith("s") for text in page.locator(".card .seconds").all_inner_texts())

    photo.save(tmp_path / "photo.png")
    saved = downloaded(page, "[data-do=save-mask]")
    assert saved.suggested_filename == "my photo_mask.png"
    mask = read_image(saved)
    mask.save(tmp_path / "mask.png")
    assert mask.size == photo.size
    assert 0.05 < (np.asarray(mask.convert("L")) == 255).mean() < 0.4
    with zipfile.ZipFile(downloaded(page, "[data-do=save-all]").path()) as archive:
        assert archive.testzip() is None
        zipped = {name: Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    checkpoint = untrained / "demo" / "lbam" / "checkpoints" / "best.ckpt"
    for method, option in {"telea": "model=telea", "demo/lbam": f"ckpt={checkpoint}"}.items():
        asked = ["image=photo.png", "mask=mask.png", "output=out.png", "device=cpu"]
        assert commands("predict", option, *asked, cwd=tmp_path).code == 0
        expected = np.asarray(Image.open(tmp_path / "out.png"))
        one = downloaded(page, f".card[data-method='{method}'] .actions .link")
        assert one.suggested_filename == f"my photo_{method.replace('/', '_')}.png"
        for filled in (read_image(one), zipped[one.suggested_filename]):
            assert np.array_equal(filled, expected)
    assert hosts - {""} == {app_server.address.removeprefix("http://")}  # no request goes to another host


def test_edges_are_shown_edited_and_used(opened, untrained, photo):
    page = opened(viewport={"width": 1280, "height": 900})
    requests = []

    def note(request):
        if "/call/" in request.url:
            requests.append(json.loads(request.post_data))

    page.on("request", note)
    upload(page, as_file(photo))
    paint(page, (0.2, 0.5), (0.8, 0.5))
    tick(page, "edge_lbam", "telea")
    page.check("[name=figures]")
    fill(page, 2)
    assert page.locator("h3").all_inner_texts() == ["Internals of edge_lbam"]
    assert "Edges" in page.locator("summary").all_inner_texts()
    assert page.locator("text=Edit edges").count() == 1
    assert requests[-1]["edges"] is None
    page.click("text=Edit edges")
    page.wait_for_selector(".layers:visible")
    assert page.locator("[data-layer=edges][aria-pressed=true]").count() == 1
    assert page.locator("[data-do=undo]").is_disabled()  # predicted edges can't be undone
    page.click("[data-do=clear]")
    paint(page, (0.5, 0.1), (0.5, 0.9))
    fill(page, 2)
    assert page.locator(".card i").all_inner_texts() == ["your edges"]  # not on telea's card

    sent = next(request for request in requests[::-1] if request.get("method") == "edge_lbam")
    mask, edges = (Image.open(io.BytesIO(base64.b64decode(sent[key]))).convert("L") for key in ("mask", "edges"))
    hole, lines = np.asarray(mask) > 0, np.asarray(edges) / np.float32(255)
    assert lines.max() == 1
    assert (lines[~hole] == 0).all()  # lines are clipped to the hole
    assert (lines[:, : WIDTH // 3] == 0).all()  # predicted edges were cleared
    expected = load(untrained / "edge_lbam", device="cpu")(photo, mask, lines)
    shown = read_image(downloaded(page, ".card[data-method=edge_lbam] .actions .link"))
    assert np.array_equal(shown, expected)

    page.click("[data-layer=hole]")
    paint(page, (0.2, 0.2), (0.3, 0.2))  # edges belong to the previous hole
    assert page.locator(".layers").is_hidden()
    page.uncheck("[name=figures]")
    fill(page, 2)
    assert page.locator(".card i").count() == 0
    assert page.locator(".figures section").count() == 0


def test_paint_is_undone_erased_and_loaded_from_a_mask(opened, photo):
    page = opened()
    upload(page, as_file(photo))
    share = lambda: page.inner_text(".hint").partition(", ")[2]  # noqa: E731
    assert page.inner_text(".hint") == "Paint over what you want to remove."
    paint(page, (0.2, 0.5), (0.8, 0.5))
    first = share()
    paint(page, (0.5, 0.2), (0.5, 0.8))
    both = share()
    assert first != both
    page.keyboard.press("Control+z")
    assert share() == first
    page.keyboard.press("Control+Shift+z")
    assert share() == both
    page.keyboard.press("e")
    paint(page, (0.5, 0.2), (0.5, 0.8))
    assert float(share().split()[0]) < float(first.split()[0])
    page.click("[data-do=clear]")
    assert page.inner_text(".hint") == "Paint over what you want to remove."
    page.click("[data-do=undo]")
    assert share()
    mask = Image.new("L", photo.size)
    mask.paste(255, (0, 0, WIDTH // 2, HEIGHT))
    page.set_input_files("[name=mask]", as_file(mask))
    page.wait_for_function("document.querySelector('.hint').textContent.includes(' 50 %')")
    saved = read_image(downloaded(page, "[data-do=save-mask]"))
    assert np.array_equal(saved.convert("L"), mask)
    page.set_input_files("[name=mask]", as_file(mask.resize((10, 10))))
    assert error_message(page) == "The mask is 10 x 10 but the image is 120 x 90 pixels: load a mask of the same size."


def test_a_double_click_on_fill_fills_once(opened, photo):
    page = opened(viewport={"width": 1920, "height": 1080})
    upload(page, as_file(photo))
    green = Image.new("RGB", photo.size)
    green.paste((0, 255, 0), (10, 10, 40, 40))
    page.set_input_files("[name=mask]", as_file(green))
    page.wait_for_function("document.querySelector('.hint').textContent.includes('painted')")
    tick(page, "telea", "mean_colour")
    requests = []
    page.on("request", lambda request: requests.append("/call/fill" in request.url))
    page.dblclick("[type=submit]", delay=20)
    page.wait_for_function("document.querySelectorAll('.card[data-state=done]').length === 2")
    page.wait_for_selector("[type=submit]:enabled")
    assert sum(requests) == 2


def test_a_click_paints_a_dot_of_the_brush_size(opened, photo):
    page = opened()
    upload(page, as_file(photo))
    paint(page, (0.5, 0.5))
    dot = np.asarray(read_image(downloaded(page, "[data-do=save-mask]")).convert("L")) == 255
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    far = np.hypot(x - WIDTH / 2, y - HEIGHT / 2)
    assert dot[far < 3].all()  # the brush is 8 px wide
    assert not dot[far > 5].any()
    page.click("[data-do=undo]")
    assert page.inner_text(".hint") == "Paint over what you want to remove."
    page.click("[data-do=redo]")
    redone = read_image(downloaded(page, "[data-do=save-mask]")).convert("L")
    assert np.array_equal(np.asarray(redone) == 255, dot)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.png", b"not an image", "The image is not a PNG, JPEG, WebP, BMP, TIFF, GIF"),
        ("cut.png", as_file(Image.effect_noise((99, 99), 50))["buffer"][:500], "The image is corrupt or truncated"),
        ("many.png", as_file(Image.new("1", (1200, 1000)))["buffer"], "1.2 megapixels (1200x1000), above"),
        ("large.png", bytes(2_100_000), "large.png has 2.1 MB, the limit is 2 MB"),
    ],
    ids=["text", "cut", "many pixels", "large"],
)
def test_an_invalid_file_is_rejected_with_a_message(opened, photo, name, content, message):
    page = opened()
    page.set_input_files("[name=image]", {"name": name, "mimeType": "image/png", "buffer": content})
    assert message in error_message(page)
    assert page.locator(".board canvas").is_hidden()
    page.click("[data-do=dismiss]")
    page.wait_for_selector(".error", state="hidden")
    upload(page, as_file(photo))


def test_missing_inputs_are_reported(opened, photo):
    page = opened()
    page.click("[type=submit]")
    assert error_message(page) == "Choose an image first."
    upload(page, as_file(photo))
    page.click("[type=submit]")
    assert error_message(page) == "Nothing is painted: paint over what you want to remove."
    paint(page, (0.2, 0.5), (0.8, 0.5))
    tick(page)
    page.click("[type=submit]")
    assert error_message(page) == "Select at least one method."


@pytest.mark.parametrize("type_", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(opened, photo, type_):
    page = opened()
    text = base64.b64encode(as_file(photo)["buffer"]).decode()
    page.locator(".board").evaluate(DROPPED, {"type": type_, "name": "photo.png", "text": text})
    page.wait_for_selector(".board canvas:visible")


def test_an_example_is_filled_with_one_click(opened):
    page = opened(color_scheme="dark")
    assert page.locator("body").evaluate(LIT) < 150
    tick(page, "telea")
    page.locator(".example").nth(3).click()
    page.wait_for_selector(".card[data-state=done]")
    assert page.inner_text(".hint").startswith("451 x 300 px, ")
    before = page.locator(".card .before")
    assert before.evaluate("element => getComputedStyle(element).opacity") == "0"
    page.hover(".card .hold")
    page.mouse.down()
    assert before.evaluate("element => getComputedStyle(element).opacity") == "1"
    page.mouse.up()
    page.click(".card .frame img")
    assert page.locator("dialog[open] p").inner_text().startswith("telea, ")


def test_stop_keeps_finished_results_and_filling_works_again(opened, photo):
    page = opened()
    upload(page, as_file(photo))
    paint(page, (0.2, 0.5), (0.8, 0.5))
    tick(page, "telea", "mean_colour")
    held = []

    def hold(route):  # mean_colour comes first
        if route.request.post_data_json.get("method") == "telea":
            held.append(route)
        else:
            route.continue_()

    page.route("**/call/*", hold)
    page.click("[type=submit]")
    page.wait_for_selector(".card[data-method=mean_colour][data-state=done]")
    page.wait_for_selector(".card[data-method=telea][data-state=running]")
    while not held:  # the card changes before the request is sent
        page.wait_for_timeout(20)
    page.click("[data-do=stop]")
    page.wait_for_selector("[type=submit]:visible")
    assert page.locator(".card").count() == 1
    (late,) = held
    late.abort()
    page.unroute("**/call/*")
    fill(page, 2)
    assert page.locator(".error").is_hidden()


def test_an_unreachable_server_is_reported(opened, photo):
    page = opened()
    upload(page, as_file(photo))
    paint(page, (0.2, 0.5), (0.8, 0.5))
    tick(page, "telea")
    page.route("**/call/*", lambda route: route.abort())
    page.click("[type=submit]")
    page.wait_for_selector(".card[data-state=failed]")
    assert "The server is unreachable. Your painting is kept" in page.inner_text(".card")
    page.unroute("**/call/*")
    fill(page, 1)


def test_the_page_fits_a_phone_and_touch_paints(opened, photo):
    page = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=3)
    upload(page, as_file(photo))
    box = page.locator(".board canvas").bounding_box()
    assert box["width"] > 330
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelector('.hint').textContent.includes('painted')")
    tick(page, "telea")
    fill(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    card = page.locator(".card").bounding_box()
    assert card["width"] > 330
    for button in page.locator(".tools button:visible").all():
        assert button.bounding_box()["height"] >= 30
