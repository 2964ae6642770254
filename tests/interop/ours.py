"""The thing under test: the program by subprocess, the library by ctypes (include/halftone.h), scratch files."""
import ctypes as C
import json
import os
import subprocess

import numpy as np

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.realpath(os.environ.get("HT_BUILD", os.path.join(ROOT, "build", "release")))
WORK = os.environ.get("HT_INTEROP_WORK", os.path.join(BUILD, "interop"))
TINY = os.path.join(ROOT, "models", "tiny")
GOLDEN = os.path.join(ROOT, "tests", "golden")
os.makedirs(WORK, exist_ok=True)


# ---- the program --------------------------------------------------------------------------------------------

def halftone(*args, check=True):
    """Runs the program with --json where it gives a document; returns (exit code, document or text, stderr)."""
    argv = [os.path.join(BUILD, "halftone")] + [str(a) for a in args]
    p = subprocess.run(argv, capture_output=True, text=True)
    if check and p.returncode != 0:
        raise RuntimeError("%s\nexit code %d\n%s%s" % (" ".join(argv), p.returncode, p.stdout[-2000:], p.stderr[-2000:]))
    out = p.stdout
    if "--json" in args and out.strip():
        out = json.loads(out)
    return p.returncode, out, p.stderr


def names(registry):
    return [row["name"] for row in halftone("list", registry, "--json")[1]]


def made(name, *command):
    """Path of a scratch file, made by `halftone COMMAND... -o PATH` when it is not there yet."""
    path = os.path.join(WORK, name)
    if not os.path.exists(path):
        halftone(*command, "-o", path)
    return path


PRIVATE = 0x48540000  # from here on numbers of types are our own; stock refuses them


def gguf_py_decodes(row):
    """gguf-py knows the type of a `list formats` row, and how to decode it."""
    import gguf
    known = {t.value: t for t in gguf.GGMLQuantizationType}
    if row["gguf_type"] not in known:
        return False
    try:
        shape = (1, row["block_bytes"])
        gguf.quants.dequantize(np.zeros(shape, dtype=np.uint8), known[row["gguf_type"]])
    except NotImplementedError:
        return False
    return True


def ref(name):
    """A reference model's file, or None."""
    d = os.environ.get("HT_REF_DIR")
    path = os.path.join(d, name) if d else None
    return path if path and os.path.exists(path) else None


def text(name):
    d = os.environ.get("HT_TEXT_DIR")
    path = os.path.join(d, name) if d else None
    return path if path and os.path.exists(path) else None


def tiny(dtype):
    """The embedded model as GGUF: f32, f16 or bf16."""
    return made("tiny-%s.gguf" % dtype, "convert", TINY, "--dtype", dtype)


def tiny_imatrix():
    return made("tiny.imatrix.gguf", "imatrix", "collect", tiny("f32"), "--text",
                os.path.join(ROOT, "models", "text", "northanger-abbey.txt"), "--tokens", 8192)


def ref_f16(name):
    """A reference model decoded to f16, or None."""
    source = ref(name + ".gguf")
    return made(name + "-f16.gguf", "convert", source, "--dtype", "f16") if source else None


def quantized(source, stem, fmt, imatrix=None):
    """A file of one format or preset."""
    extra = ["--imatrix", imatrix] if imatrix else []
    return made("%s-%s%s.gguf" % (stem, fmt, "-imat" if imatrix else ""), "quantize", source, "--format", fmt, *extra)


# ---- the library --------------------------------------------------------------------------------------------

class Err(C.Structure):
    _fields_ = [("code", C.c_int), ("pos", C.c_uint64), ("what", C.c_char * 128), ("msg", C.c_char * 512)]


class ContextOptions(C.Structure):
    _fields_ = [("size", C.c_size_t), ("threads", C.c_int), ("log", C.c_void_p), ("progress", C.c_void_p),
                ("user", C.c_void_p)]


class SessionOptions(C.Structure):
    _fields_ = [("size", C.c_size_t), ("ctx", C.c_uint32), ("exact", C.c_bool), ("bf16", C.c_bool)]


_lib = None


def _library():
    global _lib
    if _lib is None:
        _lib = C.CDLL(os.path.join(BUILD, "libhalftone.so"))
        _lib.ht_model_vocab.restype = C.c_uint32
        _lib.ht_model_context_length.restype = C.c_uint32
        for name in ("ht_model_vocab", "ht_model_context_length", "ht_model_close", "ht_context_free", "ht_ids_free",
                     "ht_session_free"):
            getattr(_lib, name).argtypes = [C.c_void_p]
    return _lib


def _call(name, *args):
    err = Err()
    if getattr(_library(), name)(*args, C.byref(err)) != 0:
        raise RuntimeError("%s: %s: %s" % (name, err.what.decode(), err.msg.decode()))


class Model:
    """A model opened by the library."""

    def __init__(self, path, threads=2):
        lib = _library()
        options = ContextOptions()
        lib.ht_context_options_defaults(C.byref(options))
        options.threads = threads
        self.ctx, self.model = C.c_void_p(), C.c_void_p()
        _call("ht_context_new", C.byref(options), C.byref(self.ctx))
        _call("ht_model_open", self.ctx, os.fsencode(path), C.byref(self.model))
        self.vocab = lib.ht_model_vocab(self.model)

    def close(self):
        _library().ht_model_close(self.model)
        _library().ht_context_free(self.ctx)

    def tokenize(self, line, special=False):
        data = line.encode("utf-8")
        ids, n = C.POINTER(C.c_int32)(), C.c_size_t()
        _call("ht_tokenize", self.model, data, C.c_size_t(len(data)), C.c_uint(1 if special else 0), C.byref(ids),
              C.byref(n))
        out = list(ids[:n.value]) if n.value else []
        _library().ht_ids_free(ids)
        return out

    def detokenize(self, ids):
        array = (C.c_int32 * len(ids))(*ids)
        out, n = C.c_char_p(), C.c_size_t()
        pointer = C.POINTER(C.c_char)()
        _call("ht_detokenize", self.model, array, C.c_size_t(len(ids)), C.c_bool(True), C.byref(pointer), C.byref(n))
        out = C.string_at(pointer, n.value)
        _library().ht_string_free(pointer)
        return out

    def logits(self, ids, exact, bf16=False):
        """[len(ids), vocab] f32 of one batch."""
        options = SessionOptions()
        _library().ht_session_options_defaults(C.byref(options))
        options.ctx, options.exact, options.bf16 = len(ids), exact, bf16
        session = C.c_void_p()
        _call("ht_session_new", self.ctx, self.model, C.byref(options), C.byref(session))
        array = np.asarray(ids, dtype=np.int32)
        out = np.empty((len(ids), self.vocab), dtype=np.float32)
        try:
            _call("ht_session_feed", session, array.ctypes.data_as(C.POINTER(C.c_int32)), C.c_size_t(len(ids)),
                  C.c_bool(True), out.ctypes.data_as(C.POINTER(C.c_float)))
        finally:
            _library().ht_session_free(session)
        return out


def log_softmax(logits):
    x = logits.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
