"""The web application: answers, TensorFlow Serving's interface, and requests that are refused."""

import base64
import gc
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("python_multipart", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")
from starlette.testclient import TestClient

from cifar_models.run.load import load_run
from cifar_models.server import limits, served_model
from cifar_models.server.app import create_app
from cifar_models.server.served_model import load_models, names_of

RNG = np.random.default_rng(0)
PROC = Path("/proc/self/fd")  # open files; nothing outside Linux


def png(size: int = 20) -> bytes:
    content = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (size, size, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def models(finished_run):
    return load_models([finished_run])


@pytest.fixture(scope="module")
def client(models):
    app = create_app(models)
    return TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def name(models) -> str:
    return next(iter(models))


def test_the_page_and_its_files(client):
    page = client.get("/")
    assert page.status_code == 200 and "text/html" in page.headers["content-type"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/static/page.css", "/static/page.js"):
        assert client.get(path).status_code == 200
        assert path in page.text
    assert "http" not in page.text  # nothing from elsewhere
    assert client.get("/static/%2e%2e/app.py").status_code == 404


def test_uploads_are_predicted_like_files(client, name, finished_run, tmp_path):
    contents = [png() for _ in range(3)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.png").write_bytes(content)
    files = [("files", (f"{number}.png", each)) for number, each in enumerate(contents)]
    files.insert(1, ("files", ("bad.png", b"no image")))
    answers = client.post(f"/api/predict?model={name}&maps=1", files=files).json()
    assert [answer["file"] for answer in answers] == ["0.png", "bad.png", "1.png", "2.png"]
    bad = answers.pop(1)
    assert bad["problem"].startswith("cannot be read") and not bad["classes"]
    for answer, expected in zip(answers, load_run(finished_run).predict([tmp_path]), strict=True):
        best, probability = expected.top(1)[0]
        assert answer["classes"][0]["class"] == best
        assert answer["classes"][0]["probability"] == pytest.approx(probability, abs=1e-5)
        kind, _, data = answer["map"].partition(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (8, 8)


def test_the_list_of_models(client, name):
    (model,) = client.get("/api/models").json()
    assert model["name"] == name and model["classes"] == list("0123456789")
    assert model["image_shape"] == [8, 8, 1] and model["has_maps"]


def test_tensorflow_servings_interface(client, name, finished_run):
    """The forms of https://www.tensorflow.org/tfx/serving/api_rest, in rows and in columns."""
    state = client.get(f"/v1/models/{name}").json()["model_version_status"][0]
    assert (state["version"], state["state"]) == ("1", "AVAILABLE")
    assert state["status"] == {"error_code": "OK", "error_message": ""}
    images = RNG.integers(0, 256, (3, 8, 8, 1))
    address = f"/v1/models/{name}:predict"
    rows = client.post(address, json={"instances": images.tolist()}).json()["predictions"]
    named = [{"images": image} for image in images.tolist()]
    assert client.post(address, json={"instances": named}).json()["predictions"] == rows
    for inputs in (images.tolist(), {"images": images.tolist()}):
        outputs = client.post(address, json={"inputs": inputs}).json()["outputs"]
        assert outputs["probabilities"] == [row["probabilities"] for row in rows]
        assert outputs["label"] == [row["label"] for row in rows]
    network = load_run(finished_run).network
    expected = np.exp(network(images.astype(np.uint8), training=False).numpy())
    expected /= expected.sum(axis=1, keepdims=True)
    found = [row["probabilities"] for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [row["label"] for row in rows] == [str(each) for each in expected.argmax(axis=1)]
    versioned = client.post(f"/v1/models/{name}/versions/1:predict", json={"instances": named})
    assert versioned.json()["predictions"] == rows


def test_image_files_in_base64(client, name):
    content = png()
    encoded = {"b64": base64.b64encode(content).decode()}
    address = f"/v1/models/{name}:predict"
    (uploaded,) = client.post(f"/api/predict?model={name}", files=[("files", content)]).json()
    for instances in ([encoded], [{"image_bytes": encoded}]):
        body = {"signature_name": "image_files", "instances": instances}
        (row,) = client.post(address, json=body).json()["predictions"]
        assert row["label"] == uploaded["classes"][0]["class"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "either instances or inputs"),
        ('{"instances": [], "inputs": []}', "either instances or inputs"),
        ('{"instances": []}', "1 to 256 images"),
        ('{"instances": {}}', "must be a list"),
        ('{"inputs": 3}', "must be a list"),
        ('{"instances": [[1, [2]]]}', "of shape [8, 8, 1]"),
        ('{"instances": [["' + "x" * 100_000 + '", "", ""]]}', "of shape [8, 8, 1]"),
        ('{"signature_name": [], "instances": [1]}', "signature_name must be"),
        ('{"instances": [[[[0]]]]}', "of shape [8, 8, 1]"),
        ('{"signature_name": "x", "instances": [1]}', "signature_name must be"),
        ('{"signature_name": "image_files", "instances": ["x"]}', 'must be {"b64"'),
        ('{"signature_name": "image_files", "instances": [{"b64": "?"}]}', "no base64"),
        ('{"signature_name": "image_files", "instances": [{"b64": "eA=="}]}', "cannot be read"),
    ],
)
def test_malformed_predictions(body, message, client, name):
    response = client.post(f"/v1/models/{name}:predict", content=body)
    assert response.status_code == 400 and message in response.json()["error"]


def test_values_outside_the_range_of_pixels(client, name):
    for value in (-1, 256, 0.5, "x", None, True, 10**30, [0]):
        images = np.zeros((1, 8, 8, 1), object)
        images[0, 0, 0, 0] = value
        response = client.post(f"/v1/models/{name}:predict", json={"instances": images.tolist()})
        assert response.status_code == 400, value


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 403),  # DNS rebinding
        ({"Host": "localhost.evil.example:8000"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://localhost:8000"}, 200),
        ({"Origin": "http://localhost:9000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://localhost:8000"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Content-Length": "99999999999"}, 413),
    ],
)
def test_hosts_origins_and_sizes(headers, status, client):
    assert client.get("/api/models", headers=headers).status_code == status


def test_requests_in_excess_of_the_rate_are_refused(models, name, monkeypatch):
    monkeypatch.setattr(limits, "MAX_REQUESTS_PER_SECOND", 3)
    client = TestClient(create_app(models), base_url="http://localhost:8000")
    statuses = [client.get("/api/models").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


def test_bytes_of_answered_requests_do_not_count(models, name, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES_AT_ONCE", 1000)
    client = TestClient(create_app(models), base_url="http://localhost:8000")
    path = f"/v1/models/{name}:predict"
    sizes = [900, 900, 1100, 900, 0]
    answers = [client.post(path, content=b"x" * size).status_code for size in sizes]
    assert answers == [400, 400, 503, 400, 400]
    assert client.get("/api/models").status_code == 200


def test_many_small_values_in_a_request_of_files_are_refused_unread(client, name):
    """Each empty list would take 56 bytes of memory for three bytes of the request."""
    lists = ",".join(["[]"] * 100_000)
    body = f'{{"signature_name": "image_files", "instances": [{lists}]}}'
    response = client.post(f"/v1/models/{name}:predict", content=body)
    assert response.status_code == 400 and "the body is too long" in response.json()["error"]


def test_a_body_that_is_too_long_without_saying_so(client, name, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNSAID_BYTES", 1000)
    chunks = (b"x" * 100 for _ in range(100))
    response = client.post(f"/v1/models/{name}:predict", content=chunks)
    assert response.status_code == 413 and "1,000 bytes" in response.json()["error"]


def test_wrong_requests_of_the_page(client, name):
    assert client.post("/api/predict?model=x", files=[("files", png())]).status_code == 404
    assert client.post(f"/api/predict?model={name}").status_code == 400
    many = [("files", (f"{number}", b"x")) for number in range(65)]
    assert client.post(f"/api/predict?model={name}", files=many).status_code == 400
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post(f"/api/predict?model={name}", content=b"--y", headers=broken)
    assert response.status_code == 400
    assert client.get("/nothing").status_code == 404
    refused = client.put(f"/v1/models/{name}")
    assert refused.status_code == 405 and "GET" in refused.headers["allow"]


def test_the_metrics_count_requests_and_images(models, name):
    client = TestClient(create_app(models), base_url="http://localhost:8000")
    client.post(f"/api/predict?model={name}", files=[("files", png()), ("files", b"bad")])
    client.get("/nothing")
    text = client.get("/metrics").text
    assert 'cifar_models_requests_total{endpoint="predict",status="200"} 1.0' in text
    assert 'cifar_models_requests_total{endpoint="none",status="404"} 1.0' in text
    assert f'cifar_models_images_total{{model="{name}"}} 1.0' in text


MALFORMED_IMAGES = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=60).map(lambda noise: b"\x89PNG\r\n\x1a\n" + noise),
    st.binary(max_size=60).map(lambda noise: b"\xff\xd8\xff" + noise),
    st.integers(0, 200).map(lambda cut: png()[:cut]),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["images", "b64", "image_bytes", "x"]), inner, max_size=2)
    ),
    max_leaves=8,
)
EXAMPLES = [150, pytest.param(2000, marks=pytest.mark.slow)]


@pytest.fixture
def nothing_leaks(client, name):
    """Check that the same answer is given, with the same open files, after a test as before it."""
    files = {"files": ("good", png())}
    before = client.post(f"/api/predict?model={name}", files=files).json()
    num_open = len(list(PROC.glob("*")))
    yield
    assert client.post(f"/api/predict?model={name}", files=files).json() == before
    gc.collect()
    assert len(list(PROC.glob("*"))) <= num_open + 2  # of the client's event loop


@pytest.mark.parametrize("examples", EXAMPLES)
def test_malformed_images_are_answered(examples, client, name, nothing_leaks):
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(MALFORMED_IMAGES)
    def check(content):
        response = client.post(f"/api/predict?model={name}", files=[("files", ("x", content))])
        assert response.status_code == 200
        (answer,) = response.json()
        assert bool(answer["problem"]) != bool(answer["classes"])

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_malformed_requests_are_answered(examples, client, name, nothing_leaks):
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        keys=st.lists(st.sampled_from(["instances", "inputs", "x"]), unique=True, max_size=2),
        signature=st.sampled_from(["serving_default", "image_files", "", None, 3, [], {}]),
        value=JSON_VALUES,
    )
    def check(keys, signature, value):
        body = {key: value for key in keys} | {"signature_name": signature}
        response = client.post(f"/v1/models/{name}:predict", content=json.dumps(body))
        assert response.status_code == 400 and response.json()["error"]

    check()


def test_names_are_those_of_the_folders_with_their_parents_if_needed(tmp_path):
    paths = [tmp_path / name for name in ("a/run", "b/run", "c")]
    assert names_of(paths[1:]) == ["run", "c"]
    assert names_of(paths) == ["a-run", "b-run", "c"]
    assert names_of([Path("/")]) == ["root"]


def test_an_overloaded_model_says_so(client, name, monkeypatch):
    monkeypatch.setattr("cifar_models.server.batching.MAX_WAITING", 1)
    files = [("files", png()) for _ in range(3)]
    body = {"instances": np.zeros((2, 8, 8, 1), int).tolist()}
    for response in (
        client.post(f"/v1/models/{name}:predict", json=body),
        client.post(f"/api/predict?model={name}", files=files),
    ):
        assert response.status_code == 503 and response.headers["retry-after"] == "1"


def test_an_error_in_the_server_is_a_line(models, name, monkeypatch):
    monkeypatch.setattr(served_model.ServedModel, "answer", None)
    client = TestClient(
        create_app(models), base_url="http://localhost:8000", raise_server_exceptions=False
    )
    response = client.post(f"/api/predict?model={name}", files=[("files", png())])
    assert response.status_code == 500
    assert response.json() == {"error": "TypeError in the server"}
    assert response.headers["x-content-type-options"] == "nosniff"
