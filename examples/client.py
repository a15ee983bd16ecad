#!/usr/bin/env python3
"""A client that needs nothing but Python: texts by /v1/classify, tensors by the Open Inference Protocol.

python3 examples/client.py [url]
"""

import json
import sys
import urllib.error
import urllib.request


class Papillon:
    def __init__(self, url="http://localhost:8080", api_key=None):
        self.url = url.rstrip("/")
        self.headers = {"Content-Type": "application/json"}
        if api_key:
            self.headers["Authorization"] = f"Bearer {api_key}"

    def call(self, path, body=None):
        """Returns (answer, headers); raises RuntimeError with what the server says is wrong."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self.headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response), response.headers
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                fault = json.loads(text)["error"]
                text = fault if isinstance(fault, str) else fault["message"]
            except (ValueError, KeyError, TypeError):
                pass
            raise RuntimeError(f"{error.code}: {text}") from None

    def adapters(self):
        return self.call("/v1/adapters")[0]["data"]

    def classify(self, texts, model=None):
        """The best label of each text, and the adapter version that said so."""
        body = {"input": texts} if model is None else {"input": texts, "model": model}
        answer, headers = self.call("/v1/classify", body)
        return [item["label"] for item in answer["data"]], headers["X-Adapter-Id"]

    def infer(self, model, **inputs):
        """inputs: name=(datatype, rows of numbers). Returns name → (shape, flat list)."""
        tensors = [
            {"name": name, "datatype": datatype, "shape": [len(rows), len(rows[0])], "data": rows}
            for name, (datatype, rows) in inputs.items()
        ]
        answer, _ = self.call(f"/v2/models/{model}/infer", {"inputs": tensors})
        return {output["name"]: (output["shape"], output["data"]) for output in answer["outputs"]}


def main():
    server = Papillon(*sys.argv[1:2])
    texts = ["I want my money back for the coffee grinder", "Please cancel my subscription"]
    for model in [None] + [adapter["id"] for adapter in server.adapters() if adapter["error"] is None]:
        labels, version = server.classify(texts, model)
        print(f"{version}: {', '.join(labels)}")

    # The same by hand: token ids instead of a text, raw scores instead of labels.
    ids = [[2, 153, 400, 96, 689, 3]]  # [CLS] please cancel my subscription [SEP]
    logits = server.infer(
        "globex-cloud",
        input_ids=("INT64", ids),
        attention_mask=("INT64", [[1] * len(ids[0])]),
        token_type_ids=("INT64", [[0] * len(ids[0])]),
    )["logits"]
    print("logits", logits[0])

    try:
        server.classify(texts, "nobody")
    except RuntimeError as error:
        print(error)


if __name__ == "__main__":
    main()
