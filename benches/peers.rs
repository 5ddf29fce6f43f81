//! The same synthetic project built by genmake and, where they are on PATH, by ninja, samurai, n2 and GNU make: N rules that
//! copy one file each, all made from one template too. What is measured, and why so: docs/benchmarks.md.
//!
//! `cargo bench --bench peers -- [N…]`, 1,000 and 10,000 if nothing is said; 100,000 takes some minutes and 2 GB of disk.
//!
//! Prints; asserts only that what was to be built was built.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]
#![allow(clippy::disallowed_methods, reason = "it looks for its peers on PATH, and waits for time to pass")]

#[cfg(not(unix))]
fn main() {
    println!("this benchmark measures on Unix only");
}

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(unix)]
mod unix {
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::fs::{AtFlags, Mode, OFlags};
    use wait4::Wait4;

    /// The inputs of one folder.
    const FOLDER: usize = 1_000;
    /// How many jobs each tool runs at once.
    const JOBS: &str = "-j2";
    /// The word after which this program stats a tree and says how long that took.
    const FLOOR: &str = "--floor";

    /// What changes between two runs, and what is measured.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Case {
        Nothing,
        Touched,
        Changed,
        Cold,
    }

    /// Writes down for a tool what is to be done, for so many rules.
    type Write = fn(&Path, usize);

    /// A build tool, and its way to say what is to be done.
    struct Tool {
        name: &'static str,
        program: PathBuf,
        args: &'static [&'static str],
        write: Write,
    }

    /// A tool's own copy of the project.
    struct Bench {
        tool: Tool,
        dir: tempfile::TempDir,
        /// Edits so far: each is to another input, and leaves another text.
        edits: usize,
    }

    pub fn main() {
        let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
        if let [word, dir, n] = &args[..]
            && word == FLOOR
        {
            return println!("{}", floor(Path::new(dir), number(n)).as_nanos());
        }
        let sizes: Vec<usize> = args.iter().map(|arg| number(arg)).collect();
        let sizes = if sizes.is_empty() { vec![1_000, 10_000] } else { sizes };
        println!("genmake against: {}", names(&tools()));
        let mut first: Option<(usize, Duration, u64)> = None;
        for n in sizes {
            println!("\n## {n} rules\n");
            let (nothing, peak) = measure(n);
            let (n0, nothing0, peak0) = *first.get_or_insert((n, nothing, peak));
            println!(
                "\nfor each rule, as a ratio to {n0} rules: {:.2} of the time of a no-op, {:.2} of its memory",
                (nothing.as_secs_f64() / n as f64) / (nothing0.as_secs_f64() / n0 as f64),
                (peak as f64 / n as f64) / (peak0 as f64 / n0 as f64)
            );
        }
    }

    fn number(text: &str) -> usize {
        text.replace([',', '_'], "").parse().expect("a number of rules")
    }

    fn names(tools: &[Tool]) -> String {
        let mut names: Vec<&str> = tools.iter().skip(1).map(|tool| tool.name).collect();
        names.extend(tools.iter().all(|tool| tool.name != "ninja").then_some("no ninja on PATH, so no ratios"));
        names.join(", ")
    }

    /// genmake, then what of its peers is there; ninja, if it is, before all others.
    fn tools() -> Vec<Tool> {
        let genmake = PathBuf::from(env!("CARGO_BIN_EXE_genmake"));
        let mut tools = vec![Tool { name: "genmake", program: genmake, args: &["-s", JOBS], write: genfile }];
        let peers: [(&str, &[&str], Write); 4] = [
            ("ninja", &["--quiet", JOBS], ninja_file),
            ("samu", &[JOBS], ninja_file),
            ("n2", &[JOBS], ninja_file),
            ("make", &["-s", "-r", JOBS], makefile),
        ];
        let path = std::env::var_os("PATH").unwrap_or_default();
        for (name, args, write) in peers {
            let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
            if let Some(program) = places.find(|place| place.is_file()) {
                tools.push(Tool { name, program, args, write });
            }
        }
        tools
    }

    /// All cases at one size; gives genmake's time and peak memory of a no-op.
    fn measure(n: usize) -> (Duration, u64) {
        let mut benches: Vec<Bench> = tools().into_iter().map(|tool| Bench::new(tool, n)).collect();
        let rounds = if n >= 100_000 { 5 } else { 11 };
        let cold_rounds = if n >= 100_000 { 1 } else { 3 };
        let cold = paired(&mut benches, n, Case::Cold, cold_rounds);
        let cold_peak: Vec<u64> = benches.iter_mut().map(|bench| bench.cold_peak(n)).collect();
        // genmake trusts no stamp that is younger than two seconds; the run after that notes that they have become older.
        std::thread::sleep(Duration::from_millis(2_500));
        for bench in &benches {
            bench.run();
        }
        let mut nothing = paired(&mut benches, n, Case::Nothing, rounds);
        let peaks: Vec<u64> = benches.iter().map(Bench::peak).collect();
        let bare: Vec<Duration> = (0..rounds).map(|_| bare_stats(benches[0].dir.path(), n)).collect();
        let touched = paired(&mut benches, n, Case::Touched, rounds);
        let changed = paired(&mut benches, n, Case::Changed, rounds);

        println!("| | {} |", benches.iter().map(|bench| bench.tool.name).collect::<Vec<_>>().join(" | "));
        println!("| --- |{}", " --- |".repeat(benches.len()));
        for (what, times) in [
            ("nothing to do", &nothing),
            ("one input touched", &touched),
            ("one input changed", &changed),
            ("cold", &cold),
        ] {
            row(what, times, &benches);
        }
        let megabytes = |peaks: &[u64]| {
            let cells: Vec<String> = peaks.iter().map(|peak| format!("{:.1} MB", *peak as f64 / 1e6)).collect();
            cells.join(" | ")
        };
        println!("| peak memory, nothing to do | {} |", megabytes(&peaks));
        println!("| peak memory, cold | {} |", megabytes(&cold_peak));
        let floors: Vec<f64> = nothing[0].iter().zip(&bare).map(|(own, bare)| ratio(*own, *bare)).collect();
        println!("\nnothing to do, against a bare stat of the same files by 2 threads: {:.2}", median(floors));
        calls(&benches[0]);
        nothing[0].sort_unstable();
        (nothing[0][rounds / 2], peaks[0])
    }

    /// One row: each tool's median time, and the median of its ratios to ninja in the same round.
    fn row(what: &str, times: &[Vec<Duration>], benches: &[Bench]) {
        let ninja = benches.iter().position(|bench| bench.tool.name == "ninja");
        let mut line = format!("| {what} |");
        for own in times {
            let time = Duration::from_secs_f64(median(own.iter().map(Duration::as_secs_f64).collect()));
            let against =
                ninja.map(|ninja| own.iter().zip(&times[ninja]).map(|(own, its)| ratio(*own, *its)).collect());
            let against = against.map_or_else(String::new, |ratios| format!("**{:.2}**, ", median(ratios)));
            write!(line, " {against}{time:.1?} |").expect("a string takes it");
        }
        println!("{line}");
    }

    fn ratio(own: Duration, other: Duration) -> f64 {
        own.as_secs_f64() / other.as_secs_f64()
    }

    fn median(mut all: Vec<f64>) -> f64 {
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    }

    /// Runs all tools in turn, again and again, so that what the machine does meanwhile meets all of them alike.
    fn paired(benches: &mut [Bench], n: usize, case: Case, rounds: usize) -> Vec<Vec<Duration>> {
        let mut times = vec![Vec::with_capacity(rounds); benches.len()];
        for _ in 0..rounds {
            for (bench, times) in benches.iter_mut().zip(&mut times) {
                bench.prepare(n, case);
                times.push(bench.run());
                bench.is_built(n, case);
            }
        }
        times
    }

    impl Bench {
        fn new(tool: Tool, n: usize) -> Bench {
            let dir = tempfile::tempdir().expect("a folder");
            let root = dir.path();
            for i in 0..n {
                let file = root.join(input(i));
                if i % FOLDER == 0 {
                    fs_err::create_dir_all(file.parent().expect("a folder")).expect("a folder");
                }
                fs_err::write(file, text(i)).expect("a file");
            }
            fs_err::write(root.join("t.hbs"), "{{item.text}}").expect("a file");
            (tool.write)(root, n);
            Bench { tool, dir, edits: 0 }
        }

        fn command(&self) -> Command {
            let mut command = Command::new(&self.tool.program);
            command.args(self.tool.args).current_dir(self.dir.path()).stdout(Stdio::null());
            command
        }

        fn run(&self) -> Duration {
            let begun = Instant::now();
            let status = self.command().status().expect("it runs");
            let took = begun.elapsed();
            assert!(status.success(), "{} failed", self.tool.name);
            took
        }

        /// Its peak memory in one more run, in bytes.
        fn peak(&self) -> u64 {
            self.command().spawn().expect("it runs").wait4().expect("it ends").rusage.maxrss
        }

        fn cold_peak(&mut self, n: usize) -> u64 {
            self.prepare_cold(n);
            self.peak()
        }

        fn prepare(&mut self, n: usize, case: Case) {
            match case {
                Case::Nothing => {}
                Case::Cold => self.prepare_cold(n),
                Case::Touched => {
                    self.edits += 1;
                    let file = fs_err::File::open(self.edited(n)).expect("a file");
                    file.file().set_modified(std::time::SystemTime::now()).expect("a stamp");
                }
                Case::Changed => {
                    self.edits += 1;
                    fs_err::write(self.edited(n), text(n + self.edits)).expect("a file");
                }
            }
        }

        /// As after a checkout: no outputs, and nothing that a tool remembers. Folders of outputs are there: make makes none. What
        /// was there is moved away: ext4 is slow to reuse what was deleted just before.
        fn prepare_cold(&mut self, n: usize) {
            let root = self.dir.path();
            self.edits += 1;
            let aside = root.join(format!("aside/{}", self.edits));
            fs_err::create_dir_all(&aside).expect("a folder");
            for name in ["out", ".genmake", "Genfile.lock", ".ninja_log", ".ninja_deps", ".n2_db"] {
                let from = root.join(name);
                if from.exists() {
                    fs_err::rename(from, aside.join(name)).expect("a move");
                }
            }
            for i in (0..n).step_by(FOLDER) {
                fs_err::create_dir_all(root.join(output(i)).parent().expect("a folder")).expect("a folder");
            }
            rustix::fs::sync();
        }

        /// The input that the last edit is of: far apart from that before.
        fn edited(&self, n: usize) -> PathBuf {
            self.dir.path().join(input(self.edits * 7_919 % n))
        }

        /// That the run did what it is timed for.
        fn is_built(&self, n: usize, case: Case) {
            let read = |path: String| fs_err::read(self.dir.path().join(path)).expect("a file");
            let at = if case == Case::Cold { n - 1 } else { self.edits * 7_919 % n };
            assert!(read(input(at)) == read(output(at)), "{} did not build", self.tool.name);
        }
    }

    fn input(i: usize) -> String {
        format!("in/{:03}/{i:06}.txt", i / FOLDER)
    }

    fn output(i: usize) -> String {
        format!("out/{:03}/{i:06}.txt", i / FOLDER)
    }

    /// About 200 bytes, and no two alike.
    fn text(i: usize) -> String {
        format!("{i:>9} is a line of twenty-eight\n").repeat(6)
    }

    fn genfile(root: &Path, _: usize) {
        let text = "version: 1\nrules:\n  copy:\n    foreach: {glob: [\"in/**\"]}\n    template: t.hbs\n    \
                    output: \"out/{{basename item.dir}}/{{item.name}}\"\n";
        fs_err::write(root.join("Genfile"), text).expect("a file");
    }

    fn ninja_file(root: &Path, n: usize) {
        let mut text = "rule copy\n  command = cp $in $out\n".to_owned();
        for i in 0..n {
            writeln!(text, "build {}: copy {} | t.hbs", output(i), input(i)).expect("a string takes it");
        }
        fs_err::write(root.join("build.ninja"), text).expect("a file");
    }

    fn makefile(root: &Path, n: usize) {
        let mut text = "all:".to_owned();
        (0..n).for_each(|i| write!(text, " {}", output(i)).expect("a string takes it"));
        text.push('\n');
        for i in 0..n {
            writeln!(text, "{}: {} t.hbs\n\tcp $< $@", output(i), input(i)).expect("a string takes it");
        }
        fs_err::write(root.join("Makefile"), text).expect("a file");
    }

    /// How long the floor takes, in a process of its own: what it holds would count for the memory of those after it.
    fn bare_stats(root: &Path, n: usize) -> Duration {
        let this = std::env::current_exe().expect("this program");
        let said = Command::new(this).arg(FLOOR).arg(root).arg(n.to_string()).output().expect("it runs");
        let nanos = String::from_utf8(said.stdout).expect("text").trim().parse().expect("a number");
        Duration::from_nanos(nanos)
    }

    /// Stats every input and output by the handle of its folder, on two threads.
    fn floor(root: &Path, n: usize) -> Duration {
        let folders: Vec<(PathBuf, Vec<String>)> = (0..n)
            .step_by(FOLDER)
            .flat_map(|from| {
                let names: Vec<String> = (from..n.min(from + FOLDER)).map(|i| format!("{i:06}.txt")).collect();
                ["in", "out"].map(|top| (root.join(format!("{top}/{:03}", from / FOLDER)), names.clone()))
            })
            .collect();
        let stat = |folders: &[(PathBuf, Vec<String>)]| {
            for (folder, names) in folders {
                let folder =
                    rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("a folder");
                for name in names {
                    rustix::fs::statat(&folder, name.as_str(), AtFlags::empty()).expect("a file");
                }
            }
        };
        let begun = Instant::now();
        let (one, other) = folders.split_at(folders.len() / 2);
        std::thread::scope(|scope| {
            scope.spawn(|| stat(one));
            stat(other);
        });
        begun.elapsed()
    }

    /// Says what a no-op writes and whom it calls, where strace is there to see it.
    fn calls(bench: &Bench) {
        const CALLS: &str = "trace=write,pwrite64,writev,pwritev,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,\
                             ftruncate,fsync,fdatasync,linkat,symlinkat,fchmod,utimensat,connect,bind,sendto,sendmsg";
        // Not in the project: templates stand in its root, and a new file there might be one.
        let log = tempfile::NamedTempFile::new().expect("a file");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "signal=none", "-e", CALLS, "-o"]).arg(log.path());
        command.arg(&bench.tool.program).args(bench.tool.args).current_dir(bench.dir.path()).stdout(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => {
                let log = fs_err::read_to_string(log).expect("what strace saw");
                println!("\ncalls of a no-op that write, or reach another process: {}", log.lines().count());
                log.lines().take(5).for_each(|line| println!("    {line}"));
            }
            _ => println!("\nno strace, so its writes are not counted"),
        }
    }
}
