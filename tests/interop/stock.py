"""Stock llama.cpp as the pip package xllamacpp carries it: an in-process server on a loopback port."""
import http.client
import json

import xllamacpp


class Stock:
    """Loads a GGUF file (any failure raises). f32_cache keeps keys and values in f32 and leaves flash attention
    out, so that what remains is the arithmetic of the weights."""

    def __init__(self, path, ctx=512, f32_cache=False):
        p = xllamacpp.CommonParams()
        p.model.path = path
        p.n_ctx, p.n_parallel, p.warmup, p.verbosity = ctx, 1, False, -1
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1  # its threads spin; one is enough here
        p.n_gpu_layers = 0
        p.fit_params = False
        if f32_cache:
            p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server, self.letter = xllamacpp.Server(p), None
        address = self.server.listening_address.split("//")[1]
        self.http = http.client.HTTPConnection(address, timeout=120)

    def close(self):
        self.http.close()
        self.server = None

    def post(self, path, body):
        self.http.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        r = self.http.getresponse()
        data = r.read()
        if r.status != 200:
            raise RuntimeError("%s: %d %s" % (path, r.status, data[:300]))
        return json.loads(data)

    def tokenize(self, line, special=False):
        return self.post("/tokenize", {"content": line, "add_special": False, "parse_special": special})["tokens"]

    def top(self, ids, n):
        """[(id, natural log of its probability)] of the token behind ids. The server leaves the probabilities out
        when the token that it picks ends the text or is half a character, so a bias makes it pick a letter;
        the probabilities are those before the bias."""
        if self.letter is None:
            self.letter = self.tokenize("a")[-1]
        r = self.post("/completion", {"prompt": list(map(int, ids)), "n_predict": 1, "n_probs": n, "temperature": 0,
                                      "cache_prompt": True, "logit_bias": [[self.letter, 1000.0]]})
        return [(t["id"], t["logprob"]) for t in r["completion_probabilities"][0]["top_logprobs"]]
