#!/usr/bin/env python3
"""OpenAI's own Python client with ip2p studio.

    openai_test.py PROGRAMS_DIR SOURCE_DIR [TEST...]
"""
import base64
import pathlib
import sys
import unittest
import urllib.request

import openai

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pictures  # noqa: E402
from client import Service  # noqa: E402

PROGRAMS, SOURCE = map(pathlib.Path, sys.argv[1:3])
PHOTO = pictures.encode(64, 48, lambda x, y: (4 * x, 5 * y, 120))
TOKEN = "not a real token"


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service(PROGRAMS / "studio", "--model", SOURCE / "models/small-editor", "--resolution", 64, "--device",
                              "cpu", "--dtype", "fp32", "--token", TOKEN)
        cls.client = openai.OpenAI(base_url=cls.service.address + "/v1", api_key=TOKEN, max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.service.__exit__()

    def edit(self, image=PHOTO, prompt="make it winter", **more):
        more.setdefault("extra_body", {"seed": 7, "steps": 2})
        return self.client.images.edit(image=("photo.png", image), prompt=prompt, **more)

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([model.id for model in models], ["small-editor"])
        self.assertEqual(self.client.models.retrieve("small-editor").object, "model")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("gpt-image-1")

    def test_an_edit(self):
        answer = self.edit(model="small-editor", n=2)
        self.assertEqual(len(answer.data), 2)
        self.assertEqual((answer.size, answer.output_format), ("64x64", "png"))
        self.assertGreater(answer.usage.input_tokens, 2)
        made = [base64.b64decode(image.b64_json) for image in answer.data]
        self.assertEqual(pictures.decode(made[0])[:2], (64, 64))
        self.assertIn("Seed: 8,", pictures.texts(made[1])["parameters"])
        self.assertEqual(self.edit().data[0].b64_json, answer.data[0].b64_json)

    def test_addresses(self):
        url = self.edit(response_format="url").data[0].url
        request = urllib.request.Request(url, headers={"Authorization": "Bearer " + TOKEN})
        with urllib.request.urlopen(request) as response:
            self.assertEqual(response.read(), base64.b64decode(self.edit().data[0].b64_json))

    def test_sizes_and_formats(self):
        answer = self.edit(size="96x80", output_format="jpeg", output_compression=90)
        self.assertEqual((answer.size, answer.output_format), ("96x80", "jpeg"))
        self.assertTrue(base64.b64decode(answer.data[0].b64_json).startswith(b"\xff\xd8\xff"))
        self.assertEqual(pictures.decode(base64.b64decode(self.edit(size="32x32").data[0].b64_json))[:2], (32, 32))

    def test_a_mask_keeps_what_is_opaque(self):
        whole = pictures.encode(64, 64, lambda x, y: (4 * x, 3 * y, 120))
        mask = pictures.encode(64, 64, lambda x, y: (0, 0, 0, 0 if x < 32 else 255), channels=4)
        made = base64.b64decode(self.edit(whole, mask=("mask.png", mask)).data[0].b64_json)
        before, after = pictures.decode(whole)[3], pictures.decode(made)[3]
        kept = [i for i in range(64 * 64) if i % 64 >= 32]
        self.assertTrue(all(before[3 * i:3 * i + 3] == after[3 * i:3 * i + 3] for i in kept))
        self.assertNotEqual(before, after)

    def test_a_stream(self):
        with self.edit(stream=True, partial_images=2, extra_body={"seed": 7, "steps": 6}) as stream:
            events = list(stream)
        self.assertEqual([event.type for event in events][-1], "image_edit.completed")
        partial = [event for event in events if event.type == "image_edit.partial_image"]
        self.assertLessEqual(len(partial), 2)
        for i, event in enumerate(partial):
            self.assertEqual(event.partial_image_index, i)
            self.assertTrue(base64.b64decode(event.b64_json).startswith(b"\xff\xd8\xff"))
        whole = self.edit(extra_body={"seed": 7, "steps": 6}).data[0].b64_json
        self.assertEqual(events[-1].b64_json, whole)
        self.assertGreater(events[-1].usage.total_tokens, 2)
        # What the client's types promise is there.
        for event in events:
            self.assertEqual(set(type(event).model_fields) - set(event.model_fields_set), set()
                             if event.type == "image_edit.partial_image" else {"safety_identifier"})

    def test_errors_are_the_clients_own(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.edit(prompt="")
        self.assertEqual((caught.exception.param, caught.exception.code), ("prompt", "wrong_value"))
        with self.assertRaises(openai.BadRequestError):
            self.edit(model="gpt-image-1")
        with self.assertRaises(openai.BadRequestError):
            self.edit(image=b"no picture")
        with self.assertRaises(openai.BadRequestError):
            self.edit(n=10_000)
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="another").models.list()  # it shares the connections: not to be closed

    def test_a_list_of_one_image_is_one_image(self):
        answer = self.client.images.edit(image=[("photo.png", PHOTO)], prompt="make it winter",
                                         extra_body={"seed": 7, "steps": 2})
        self.assertEqual(answer.data[0].b64_json, self.edit().data[0].b64_json)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
