//! A random project: rules drawn by dice, the files that they read, and what a person does to these between two runs.
//!
//! Knows nothing of runs and verdicts: `random` holds what genmake makes of it against a clean checkout.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

/// Numbers that a seed decides.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0, below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Template,
    Filtered,
    Json,
    Prompt,
    Run,
}

/// What a rule has one task for each of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Nothing,
    Notes,
    AllNotes,
    NotesBut,
    Entries,
    Sections,
    Words,
    Axes,
    /// The outputs of an earlier rule, by a glob.
    Outputs(usize),
}

/// What an input names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Note,
    Notes,
    More,
    Optional,
    Entry,
    Entries,
    Section,
    Sections,
    Rule(usize),
    Output(usize),
    Outputs(usize),
}

#[derive(Debug, Clone, Copy)]
struct Input {
    names: Names,
    /// Whether the recipe asks for its text, or only for its path.
    text: bool,
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub id: usize,
    kind: Kind,
    over: Over,
    inputs: Vec<Input>,
    /// It makes two files.
    pair: bool,
    /// 0: always. Else it depends on a variable, or on the item.
    when: usize,
    /// The Genfile, a file that it includes, or one that this includes.
    place: usize,
    variable: bool,
    env: bool,
    partial: bool,
    /// Its prompt is shown what is related to its entry.
    context: bool,
    /// Its front matter names a model.
    own_model: bool,
    /// Its text is short whatever it reads.
    is_short: bool,
    /// Its text holds no other rule's.
    is_light: bool,
    // What edits change:
    version: usize,
    check: usize,
    alive: bool,
}

impl Rule {
    fn new(id: usize, seed: u64, before: &[Rule]) -> Rule {
        let mut dice = Dice::new(seed ^ (id as u64).wrapping_mul(0x5851_f42d_4c95_7f2d));
        let kind = match dice.roll(16) {
            0..=5 => Kind::Template,
            6..=12 => Kind::Prompt,
            13 => Kind::Filtered,
            14 => Kind::Json,
            _ => Kind::Run,
        };
        let earlier = |dice: &mut Dice| dice.roll(before.len());
        let over = match dice.roll(20) {
            0..=7 => Over::Nothing,
            8 | 9 => Over::Notes,
            10 => Over::AllNotes,
            11 => Over::NotesBut,
            12 | 13 => Over::Entries,
            14 => Over::Sections,
            15 => Over::Words,
            16 => Over::Axes,
            _ if before.is_empty() => Over::Nothing,
            _ => Over::Outputs(earlier(&mut dice)),
        };
        // A product of products would be many tasks.
        let over = match over {
            Over::Outputs(of) if matches!(before[of].over, Over::Axes | Over::Outputs(_)) => Over::Nothing,
            over => over,
        };
        let is_light = |of: usize| before[of].is_short || before[of].is_light;
        let count = [0, 0, 1, 1, 2, 2, 3, 4, 6][dice.roll(9)];
        let mut inputs = Vec::new();
        for _ in 0..if kind == Kind::Json { 0 } else { count } {
            let names = match dice.roll(if before.is_empty() { 8 } else { 14 }) {
                0 => Names::Note,
                1 => Names::Notes,
                2 => Names::More,
                3 => Names::Optional,
                4 => Names::Entry,
                5 => Names::Entries,
                6 => Names::Section,
                7 => Names::Sections,
                8 | 9 => Names::Rule(earlier(&mut dice)),
                10 | 11 => Names::Outputs(earlier(&mut dice)),
                _ => match earlier(&mut dice) {
                    of if before[of].is_one_file() => Names::Output(of),
                    of => Names::Rule(of),
                },
            };
            let short = match names {
                Names::Rule(of) | Names::Output(of) | Names::Outputs(of) => is_light(of),
                _ => true,
            };
            inputs.push(Input { names, text: short && !dice.one_in(3) });
        }
        let of_rule =
            |input: &Input| matches!(input.names, Names::Rule(_) | Names::Output(_) | Names::Outputs(_)) && input.text;
        let over_rule = matches!(over, Over::Outputs(_));
        Rule {
            id,
            kind,
            over,
            pair: dice.one_in(8) && kind != Kind::Json,
            when: if dice.one_in(6) { 1 + dice.roll(2) } else { 0 },
            place: [0, 0, 0, 1, 2][dice.roll(5)],
            variable: dice.one_in(4),
            env: dice.one_in(5),
            partial: dice.one_in(4),
            context: dice.one_in(2) && kind == Kind::Prompt && over == Over::Entries,
            own_model: dice.one_in(6),
            is_short: matches!(kind, Kind::Prompt | Kind::Run),
            is_light: !over_rule && !inputs.iter().any(of_rule),
            inputs,
            version: 0,
            check: 0,
            alive: true,
        }
    }

    /// Whether it always makes one file, `all.txt`.
    fn is_one_file(&self) -> bool {
        self.over == Over::Nothing && self.when == 0 && self.kind != Kind::Json && !self.pair
    }

    /// The folder of what stands beside the Genfile, or beside what is included.
    fn folder(&self) -> &'static str {
        if self.place == 0 { "" } else { "inc/" }
    }

    fn is_command(&self) -> bool {
        self.kind == Kind::Run
    }

    fn recipe(&self) -> String {
        format!("t/r{}.{}", self.id, if self.kind == Kind::Prompt { "prompt" } else { "hbs" })
    }

    /// Whether the Genfile has it.
    pub fn is_there(&self) -> bool {
        self.alive
    }

    /// Whether its tasks may have no place for now.
    pub fn may_be_left_out(&self) -> bool {
        self.when != 0
    }

    /// Whether it names another in a way that needs it to be there.
    fn needs(&self, id: usize) -> bool {
        self.inputs.iter().any(|input| matches!(input.names, Names::Rule(of) | Names::Output(of) if of == id))
    }

    fn output(&self) -> String {
        let name = match self.over {
            Over::Nothing => "all.txt",
            Over::Notes | Over::AllNotes | Over::NotesBut | Over::Outputs(_) => "{{item.path}}",
            Over::Entries | Over::Sections => "{{item.key}}.txt",
            Over::Words => "{{item}}.txt",
            Over::Axes => "{{item.n}}/{{item.a.path}}",
        };
        let json = if self.kind == Kind::Json { ".json" } else { "" };
        format!("out/r{}/{name}{json}", self.id)
    }

    fn to_json(&self) -> Value {
        let output = self.output();
        let mut rule = Map::new();
        let mut put = |key: &str, value: Value| drop(rule.insert(key.to_owned(), value));
        match self.pair {
            true => put("outputs", json!({"a": format!("{output}.a.txt"), "b": format!("{output}.b.txt")})),
            false => put("output", output.into()),
        }
        match self.kind {
            Kind::Prompt => put("prompt", self.recipe().into()),
            Kind::Run => put("run", self.command().into()),
            _ => put("template", self.recipe().into()),
        }
        if self.kind == Kind::Filtered {
            put("filter", "tr a-z A-Z".into());
        }
        match self.over {
            Over::Nothing => {}
            Over::Notes => put("foreach", "notes/*.txt".into()),
            Over::AllNotes => put("foreach", "notes/**/*.txt".into()),
            Over::NotesBut => put("foreach", json!({"glob": ["notes/*.txt", "more/*.txt", "!notes/n1.txt"]})),
            Over::Entries => put("foreach", "data/d.yaml#/entries/*".into()),
            Over::Sections => put("foreach", "book/b.md#sections".into()),
            Over::Words => put("foreach", json!(["x", "y"])),
            Over::Axes => put("foreach", json!({"a": "notes/*.txt", "n": [1, 2]})),
            Over::Outputs(of) => put("foreach", format!("out/r{of}/**/*.txt").into()),
        }
        match (self.when, self.over) {
            (0, _) => {}
            (1, Over::Notes | Over::AllNotes | Over::Outputs(_)) => put("when", "{{ne item.stem 'n2'}}".into()),
            _ => put("when", "{{eq vars.w '0'}}".into()),
        }
        let inputs: Map<String, Value> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                let path = match input.names {
                    Names::Note => "notes/n0.txt".to_owned(),
                    Names::Notes => "notes/*.txt".to_owned(),
                    Names::More => "more/**/*.txt".to_owned(),
                    Names::Optional => return (format!("i{at}"), json!({"path": "opt/maybe.txt", "optional": true})),
                    Names::Entry => "data/d.yaml#/entries/e0".to_owned(),
                    Names::Entries => "data/*.yaml#/entries/*".to_owned(),
                    Names::Section => "book/b.md#sections/s0".to_owned(),
                    Names::Sections => "book/b.md#sections".to_owned(),
                    Names::Rule(of) => format!("rule:r{of}"),
                    Names::Output(of) => format!("out/r{of}/all.txt"),
                    Names::Outputs(of) => format!("out/r{of}/**/*.txt"),
                };
                (format!("i{at}"), path.into())
            })
            .collect();
        if !inputs.is_empty() {
            put("inputs", inputs.into());
        }
        if self.env {
            put("env", json!(["GM_VAR"]));
        }
        if self.context {
            put("context", json!({"select": "data/d.yaml#/entries", "related_to": "{{item.key}}"}));
        }
        match (self.kind, self.check) {
            (Kind::Json, 0) => put("check", json!(["json", {"schema": "schemas/s.json"}])),
            (Kind::Json, _) => put("check", "json".into()),
            (_, 0) => {}
            (_, n) => put("check", json!({"run": format!("test -s {{{{output}}}} # {n}")})),
        }
        rule.into()
    }

    /// What the recipe says of item and inputs: `file` of a file's path, `text` of a part's text, for templates or for commands.
    fn says(&self, file: impl Fn(&str, bool) -> String, text: impl Fn(&str) -> String) -> String {
        let mut said = match self.over {
            Over::Nothing => String::new(),
            Over::Notes | Over::AllNotes | Over::NotesBut => file("item.", self.version.is_multiple_of(2)),
            Over::Outputs(_) => file("item.", false),
            Over::Entries => text("item.value.text"),
            Over::Sections => text("item.text"),
            Over::Words => text("item"),
            Over::Axes => text("item.n") + &file("item.a.", true),
        };
        for (at, input) in self.inputs.iter().enumerate() {
            let name = format!("inputs.i{at}");
            said += &match input.names {
                Names::Note | Names::Output(_) => file(&format!("{name}."), input.text),
                Names::Optional => format!("{{{{#if {name}}}}}{}{{{{/if}}}}", file(&format!("{name}."), input.text)),
                Names::Notes | Names::More | Names::Rule(_) | Names::Outputs(_) => {
                    format!("{{{{#each {name}}}}}{}{{{{/each}}}}", file("", input.text))
                }
                Names::Entry | Names::Section => text(&format!("{name}.text")),
                Names::Entries | Names::Sections => {
                    format!("{{{{#each {name}}}}}{}{{{{/each}}}}", text(if input.text { "text" } else { "key" }))
                }
            };
        }
        said
    }

    fn command(&self) -> String {
        let file = |of: &str, text: bool| match text {
            true => format!("cat {{{{{of}path}}}}; "),
            false => format!("echo {{{{{of}path}}}}; "),
        };
        let said = self.says(file, |text| format!("echo {{{{{text}}}}}; "));
        let variable = if self.variable { " {{vars.v}}" } else { "" };
        let env = if self.env { " {{default env.GM_VAR \"none\"}}" } else { "" };
        let to = if self.pair { "tee {{outputs.a}} > {{outputs.b}}" } else { "cat > {{output}}" };
        format!("{{ echo r{} v{}{variable}{env}; {said}}} | cksum | {to}", self.id, self.version)
    }

    fn template(&self) -> String {
        if self.kind == Kind::Json {
            return format!("{{\"rule\": {{{{json rule}}}}, \"v\": {{{{json vars.v}}}}, \"n\": {}}}\n", self.version);
        }
        let file = |of: &str, text: bool| match text {
            true => format!("{{{{{of}path}}}} = {{{{{of}text}}}}, "),
            false => format!("{{{{{of}path}}}}, "),
        };
        let mut said = self.says(file, |text| format!("{{{{{text}}}}}, "));
        if self.context {
            said += "{{#each context}}{{@key}} says {{text}}, {{/each}}";
        }
        if self.variable {
            said += " {{vars.v}}";
        }
        if self.env {
            said += " {{default env.GM_VAR \"none\"}}";
        }
        if self.partial {
            said += " {{> part}}";
            if self.kind == Kind::Prompt {
                said += " {{> tone}}";
            }
        }
        let to = if self.pair { "{{outputs.a}}" } else { "{{output}}" };
        let said = format!("{to}: r{} v{} {said}\n", self.id, self.version);
        let model = if self.own_model { "---\nmodel: own\n---\n" } else { "" };
        match self.kind {
            Kind::Prompt if self.version < 2 => said,
            Kind::Prompt => {
                format!("{model}{{{{role \"system\"}}}}\nsystem {}\n{{{{role \"user\"}}}}\n{said}", self.version % 2)
            }
            _ => said,
        }
    }
}

/// What a person wrote in a few files, from which their texts are made.
#[derive(Debug, Clone)]
pub struct Model {
    pub rules: Vec<Rule>,
    variable: usize,
    switch: usize,
    model: usize,
    is_turned: bool,
    entries: BTreeMap<usize, usize>,
    sections: BTreeMap<usize, usize>,
}

impl Model {
    pub fn new(seed: u64, rules: usize) -> Model {
        let mut all = Vec::new();
        for id in 0..rules {
            all.push(Rule::new(id, seed, &all));
        }
        Model {
            rules: all,
            variable: 0,
            switch: 0,
            model: 0,
            is_turned: seed.is_multiple_of(2),
            entries: [(0, 0), (1, 1)].into(),
            sections: [(0, 0), (1, 0)].into(),
        }
    }

    /// The files that are made from it.
    fn files(&self, genfile: &str, base_url: &str) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut places = [Map::new(), Map::new(), Map::new()];
        let mut rules: Vec<&Rule> = self.rules.iter().collect();
        if self.is_turned {
            rules.reverse();
        }
        for rule in rules {
            if rule.alive {
                places[rule.place].insert(format!("r{}", rule.id), rule.to_json());
            }
            if !rule.is_command() {
                files.insert(format!("{}{}", rule.folder(), rule.recipe()), rule.template());
            }
        }
        let [main, a, b] = places;
        let text = |value: Value| format!("{value:#}\n");
        let own = json!({
            "version": 1,
            "vars": {"v": self.variable.to_string(), "w": self.switch.to_string()},
            "provider": "p",
            "providers": {"p": {"api": "openai", "model": format!("m{}", self.model), "base_url": base_url}},
            "batching": {"max_batch_size": 3},
            "include": ["inc/a.yaml"],
            "rules": main,
        });
        files.insert(genfile.to_owned(), text(own));
        files.insert("inc/a.yaml".to_owned(), text(json!({"include": ["inc/b.yaml"], "rules": a})));
        files.insert("inc/b.yaml".to_owned(), text(json!({"rules": b})));
        let entries = self.entries.iter();
        let entries = entries.map(|(at, text)| format!("  e{at}: {{text: t{text}, next: e{}}}\n", (at + text) % 4));
        files.insert("data/d.yaml".to_owned(), format!("entries:\n{}", entries.collect::<String>()));
        let sections = self.sections.iter().map(|(at, text)| format!("# s{at}\n\ntext {text}\n\n"));
        files.insert("book/b.md".to_owned(), sections.collect());
        files
    }
}

/// A file, or where a symlink leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entry {
    File(Vec<u8>),
    Link(PathBuf),
}

/// All files below a folder but those of `.genmake`, by path.
pub type Tree = BTreeMap<String, Entry>;

/// All files below a folder but those of `.genmake`. No link is followed.
pub fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            if path.is_symlink() {
                found.insert(name, Entry::Link(fs_err::read_link(&path).expect("a link")));
            } else if path.is_dir() {
                folders.extend((name != ".genmake").then_some(path));
            } else {
                found.insert(name, Entry::File(fs_err::read(&path).expect("a file")));
            }
        }
    }
    found
}

/// Makes a folder hold exactly these files, and leaves alone those that `keeps` names.
pub fn lay(root: &Path, wanted: &Tree, keeps: impl Fn(&str) -> bool) {
    let there = tree(root);
    for (name, _) in there.iter().filter(|(name, entry)| wanted.get(*name) != Some(entry) && !keeps(name)) {
        fs_err::remove_file(root.join(name)).expect("a file");
    }
    for (name, entry) in wanted.iter().filter(|(name, entry)| there.get(*name) != Some(entry)) {
        let path = root.join(name);
        if path.is_dir() && !path.is_symlink() {
            fs_err::remove_dir_all(&path).expect("an empty folder");
        }
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        match entry {
            Entry::File(bytes) => fs_err::write(&path, bytes).expect("a file"),
            Entry::Link(to) => std::os::unix::fs::symlink(to, &path).expect("a link"),
        }
    }
}

/// What a person does between two runs. Which file it is done to, and to what, is drawn by the numbers of [`Edit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Note,
    /// An edit, and then an older time than before.
    NoteOlder,
    /// An edit of the same size, and then the time of before: as within one tick of a coarse clock.
    NoteInOneTick,
    /// An edit by somebody whose clock goes ten years ahead.
    NoteAhead,
    AddNote,
    DeleteNote,
    /// A file takes another's name, with its stamp.
    RenameNote,
    /// Two files change places.
    SwapNotes,
    /// Another file of the same size and time takes a file's place.
    ReplaceNote,
    /// As that, and it stands elsewhere under another name, too.
    LinkNote,
    /// It is written there.
    EditElsewhere,
    /// Another folder of the same names, sizes and times takes a folder's place.
    ReplaceFolder,
    /// A folder moves away, and a symlink leads to it.
    LinkFolder,
    Touch,
    /// 1970, in ten years, or cut to two seconds.
    Time,
    MoreFolder,
    Optional,
    SecondData,
    Entry,
    Section,
    Variable,
    Switch,
    ModelName,
    Turn,
    Recipe,
    RuleGone,
    RuleBack,
    Check,
    Schema,
    Partial,
    StrayPartial,
    Env,
    OutputGone,
    OutputTouch,
    LockGone,
    LockLine,
    StateGone,
    StateDamaged,
    StateOld,
    JournalDamaged,
    StoreGone,
    ObjectDamaged,
    OwnGone,
    Revert,
    Checkout,
    Nothing,
    // These take runs of their own:
    HandEdit,
    OutputFolder,
    MissingInput,
    Narrow,
    OtherGenfile,
}

/// How often each is drawn.
pub const EDITS: [(u32, What); 51] = [
    (4, What::Note),
    (3, What::NoteOlder),
    (3, What::NoteInOneTick),
    (2, What::NoteAhead),
    (3, What::AddNote),
    (2, What::DeleteNote),
    (3, What::RenameNote),
    (2, What::SwapNotes),
    (2, What::ReplaceNote),
    (2, What::LinkNote),
    (2, What::EditElsewhere),
    (2, What::ReplaceFolder),
    (2, What::LinkFolder),
    (2, What::Touch),
    (2, What::Time),
    (2, What::MoreFolder),
    (2, What::Optional),
    (2, What::SecondData),
    (4, What::Entry),
    (3, What::Section),
    (2, What::Variable),
    (2, What::Switch),
    (2, What::ModelName),
    (1, What::Turn),
    (4, What::Recipe),
    (2, What::RuleGone),
    (3, What::RuleBack),
    (2, What::Check),
    (2, What::Schema),
    (2, What::Partial),
    (2, What::StrayPartial),
    (2, What::Env),
    (3, What::OutputGone),
    (2, What::OutputTouch),
    (2, What::LockGone),
    (2, What::LockLine),
    (1, What::StateGone),
    (2, What::StateDamaged),
    (2, What::StateOld),
    (1, What::JournalDamaged),
    (1, What::StoreGone),
    (2, What::ObjectDamaged),
    (1, What::OwnGone),
    (4, What::Revert),
    (2, What::Checkout),
    (1, What::Nothing),
    (3, What::HandEdit),
    (2, What::OutputFolder),
    (2, What::MissingInput),
    (3, What::Narrow),
    (2, What::OtherGenfile),
];

/// Those that leave a file or a folder looking much as it did.
pub const OF_FILES: [What; 12] = [
    What::NoteOlder,
    What::NoteInOneTick,
    What::RenameNote,
    What::SwapNotes,
    What::ReplaceNote,
    What::LinkNote,
    What::EditElsewhere,
    What::ReplaceFolder,
    What::LinkFolder,
    What::Touch,
    What::Time,
    What::HandEdit,
];

/// Something that a person does.
#[derive(Debug, Clone, Copy)]
pub struct Edit(pub What, pub usize, pub usize);

/// Which of genmake's own things were lost since the last build.
#[derive(Debug, Clone, Default)]
pub struct Lost {
    pub lock: bool,
    /// Lines of the lock.
    pub lines: BTreeSet<String>,
    pub state: bool,
    pub store: bool,
    /// Objects of the store are not what they were.
    pub damaged: bool,
}

/// A state of the project that a person can go back to.
#[derive(Clone)]
pub struct Snapshot {
    pub model: Model,
    pub tree: Tree,
}

/// A project on disk, and what was done to it.
pub struct World {
    /// Beside the root is what stood in it, or is to.
    dir: tempfile::TempDir,
    pub root: PathBuf,
    /// The Genfile's name.
    pub genfile: String,
    base_url: String,
    pub model: Model,
    pub env: String,
    /// Every path that was ever in a lock.
    pub made: BTreeSet<String>,
    pub lost: Lost,
    pub past: Vec<Snapshot>,
    states: Vec<Vec<u8>>,
    names: usize,
}

/// Where files need not reach a disk, if there is such a place: what is tested here is not that they do.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn nth<T: Clone>(all: impl IntoIterator<Item = T>, at: usize) -> Option<T> {
    let all: Vec<T> = all.into_iter().collect();
    (!all.is_empty()).then(|| all[at % all.len()].clone())
}

fn set_time(path: &Path, time: SystemTime) {
    // A folder is opened to be read, and that is enough to set its times.
    let file = fs_err::File::open(path).expect("a file");
    file.file().set_modified(time).expect("a time can be set");
}

fn time(path: &Path) -> SystemTime {
    fs_err::metadata(path).and_then(|meta| meta.modified()).expect("a time")
}

const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl World {
    pub fn new(seed: u64, rules: usize, base_url: &str) -> World {
        let dir = scratch();
        let root = dir.path().join("root");
        fs_err::create_dir_all(dir.path().join("away")).expect("a folder");
        fs_err::create_dir_all(&root).expect("a folder");
        let genfile = if seed.is_multiple_of(7) { "build.yaml" } else { "Genfile" };
        let world = World {
            root: fs_err::canonicalize(root).expect("a folder"),
            dir,
            genfile: genfile.to_owned(),
            base_url: base_url.to_owned(),
            model: Model::new(seed, rules),
            env: "0".to_owned(),
            made: BTreeSet::new(),
            lost: Lost::default(),
            past: Vec::new(),
            states: Vec::new(),
            names: 0,
        };
        world.write("notes/n0.txt", "t0\n");
        world.write("notes/n1.txt", "t1\n");
        world.write("notes/sub/n2.txt", "t0\n");
        world.write("t/part.hbs", "part 0");
        world.write("t/_tone.prompt", "tone 0");
        world.write("inc/t/part.hbs", "part 0");
        world.write("inc/t/_tone.prompt", "tone 0");
        world.write("schemas/s.json", SCHEMAS[0]);
        world.write("inc/schemas/s.json", SCHEMAS[0]);
        world.write("o/other.hbs", "{{item.text}}");
        world.write(
            "Other.yaml",
            "version: 1\nrules:\n  other: {foreach: notes/*.txt, template: o/other.hbs, output: 'other/{{item.name}}'}\n",
        );
        world.write_model();
        world
    }

    /// A folder of its own for each name.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn lock_name(&self) -> String {
        format!("{}.lock", self.genfile)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.root.join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs_err::write(path, text).expect("a file");
    }

    /// Writes the files of the model that are not as they should be.
    fn write_model(&self) {
        for (name, text) in self.model.files(&self.genfile, &self.base_url) {
            if fs_err::read(self.root.join(&name)).ok().as_deref() != Some(text.as_bytes()) {
                self.write(&name, &text);
            }
        }
    }

    /// Whether genmake made it, or keeps it: no source.
    pub fn is_made(&self, name: &str) -> bool {
        self.made.contains(name)
            || name == self.lock_name()
            || name == "Other.yaml.lock"
            || name.starts_with("other/")
            || name.starts_with("out/")
    }

    /// What a checkout without outputs and lock holds.
    pub fn sources(&self) -> Tree {
        tree(&self.root).into_iter().filter(|(name, _)| !self.is_made(name)).collect()
    }

    /// The outputs on disk that the lock names.
    fn outputs(&self) -> Vec<String> {
        let there = |name: &&String| self.root.join(name).is_file() && !name.starts_with("other/");
        self.made.iter().filter(there).cloned().collect()
    }

    /// An output on disk.
    pub fn output(&self, at: usize) -> Option<String> {
        nth(self.outputs(), at)
    }

    /// All notes, as paths below the root.
    fn notes(&self) -> Vec<String> {
        let folder = self.root.join("notes");
        let names = tree(&folder).into_keys().map(|name| format!("notes/{name}"));
        names.collect()
    }

    /// A note that no input names by its path.
    fn free_note(&self, at: usize) -> Option<String> {
        nth(self.notes().into_iter().filter(|name| name != "notes/n0.txt"), at)
    }

    fn away(&mut self) -> PathBuf {
        self.names += 1;
        self.beside("away").join(format!("f{}", self.names))
    }

    /// Notes what a person can come back to, and what a backup could bring back.
    pub fn remember(&mut self) {
        self.past.push(Snapshot { model: self.model.clone(), tree: tree(&self.root) });
        self.states.extend(fs_err::read(self.root.join(".genmake/state")));
    }

    fn own(&self, name: &str) -> PathBuf {
        self.root.join(".genmake").join(name)
    }

    /// The objects of the store.
    fn objects(&self) -> Vec<PathBuf> {
        let folder = self.own("store");
        match folder.is_dir() {
            true => tree(&folder).into_keys().map(|name| folder.join(name)).collect(),
            false => Vec::new(),
        }
    }

    /// Does what needs no run. `is_first`: nothing was done yet since the last build.
    pub fn apply(&mut self, Edit(what, a, b): Edit, is_first: bool) {
        let text = format!("t{}\n", b % 4);
        match what {
            What::Note => nth(self.notes(), a).iter().for_each(|name| self.write(name, &text)),
            What::NoteOlder | What::NoteInOneTick | What::NoteAhead => {
                if let Some(path) = nth(self.notes(), a).map(|name| self.root.join(name)) {
                    let before = time(&path);
                    fs_err::write(&path, text).expect("a file");
                    let to = match what {
                        What::NoteOlder => before - YEARS,
                        What::NoteAhead => before + YEARS,
                        _ => before,
                    };
                    set_time(&path, to);
                }
            }
            What::AddNote => {
                let folder = ["notes/", "notes/sub/", "notes/new/"][a % 3];
                self.write(&format!("{folder}n{}.txt", b % 5), &text);
            }
            What::DeleteNote => {
                if let Some(name) = self.free_note(a) {
                    fs_err::remove_file(self.root.join(name)).expect("a file");
                }
            }
            What::RenameNote => {
                if let Some(name) = self.free_note(a) {
                    let folder = name.rsplit_once('/').map_or("notes", |(folder, _)| folder);
                    let to = self.root.join(folder).join(format!("n{}.txt", 1 + b % 5));
                    fs_err::rename(self.root.join(name), to).expect("a file");
                }
            }
            What::SwapNotes => {
                if let (Some(one), Some(other)) = (nth(self.notes(), a), nth(self.notes(), b)) {
                    let (one, other, between) = (self.root.join(one), self.root.join(other), self.away());
                    if one != other {
                        fs_err::rename(&one, &between).expect("a file");
                        fs_err::rename(&other, &one).expect("a file");
                        fs_err::rename(&between, &other).expect("a file");
                    }
                }
            }
            What::ReplaceNote | What::LinkNote => {
                if let Some(path) = nth(self.notes(), a).map(|name| self.root.join(name)) {
                    let (other, second) = (self.away(), self.away());
                    fs_err::write(&other, text).expect("a file");
                    set_time(&other, time(&path));
                    if what == What::LinkNote {
                        fs_err::hard_link(&other, second).expect("a link");
                    }
                    fs_err::rename(other, path).expect("a file");
                }
            }
            What::EditElsewhere => {
                let files = tree(&self.beside("away"));
                let name = nth(files.into_keys(), a);
                if let Some(name) = name {
                    fs_err::write(self.beside("away").join(name), text).expect("a file");
                }
            }
            What::ReplaceFolder => {
                let (new, old, notes) = (self.away(), self.away(), self.root.join("notes"));
                let changed = nth(tree(&notes).into_keys(), a);
                for (name, entry) in tree(&notes) {
                    let Entry::File(bytes) = entry else { continue };
                    let path = new.join(&name);
                    fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                    let bytes = if changed.as_ref() == Some(&name) { text.clone().into_bytes() } else { bytes };
                    fs_err::write(&path, bytes).expect("a file");
                    set_time(&path, time(&notes.join(&name)));
                    set_time(path.parent().expect("a folder"), time(notes.join(&name).parent().expect("a folder")));
                }
                if new.is_dir() && !notes.is_symlink() {
                    set_time(&new, time(&notes));
                    fs_err::rename(&notes, old).expect("a folder");
                    fs_err::rename(new, notes).expect("a folder");
                }
            }
            What::LinkFolder => {
                let notes = self.root.join("notes");
                if let Ok(to) = fs_err::read_link(&notes) {
                    fs_err::remove_file(&notes).expect("a link");
                    fs_err::rename(self.root.join(to), notes).expect("a folder");
                } else {
                    self.names += 1;
                    let to = format!("elsewhere/n{}", self.names);
                    fs_err::create_dir_all(self.root.join("elsewhere")).expect("a folder");
                    fs_err::rename(&notes, self.root.join(&to)).expect("a folder");
                    std::os::unix::fs::symlink(to, notes).expect("a link");
                }
            }
            What::Touch | What::Time => {
                let sources = self.sources().into_iter();
                let files = sources.filter(|(_, entry)| matches!(entry, Entry::File(_))).map(|(name, _)| name);
                if let Some(path) = nth(files.chain(self.outputs()), a).map(|name| self.root.join(name)) {
                    let bytes = fs_err::read(&path).expect("a file");
                    if what == What::Touch {
                        return fs_err::write(&path, bytes).expect("a file");
                    }
                    let since = time(&path).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                    let to = match b % 3 {
                        0 => Duration::ZERO,
                        1 => since + YEARS,
                        _ => Duration::from_secs(since.as_secs() / 2 * 2),
                    };
                    set_time(&path, SystemTime::UNIX_EPOCH + to);
                }
            }
            What::MoreFolder => match (b % 3, self.root.join("more")) {
                (0, more) if more.is_dir() => fs_err::remove_dir_all(more).expect("a folder"),
                (1, more) => fs_err::create_dir_all(more.join("empty")).expect("a folder"),
                (_, _) => self.write(&format!("more/{}m{}.txt", ["", "deep/"][a % 2], a % 3), &text),
            },
            What::Optional => match self.root.join("opt/maybe.txt") {
                path if path.exists() && b % 2 == 0 => fs_err::remove_file(path).expect("a file"),
                _ => self.write("opt/maybe.txt", &text),
            },
            What::SecondData => match self.root.join("data/e.yaml") {
                path if path.exists() && b % 2 == 0 => fs_err::remove_file(path).expect("a file"),
                _ => self.write("data/e.yaml", &format!("entries: {{z: {{text: t{}}}}}\n", b % 4)),
            },
            What::Schema => self.write(["schemas/s.json", "inc/schemas/s.json"][a % 2], SCHEMAS[b % 2]),
            What::Partial => {
                let name = ["t/part.hbs", "t/_tone.prompt", "inc/t/part.hbs", "inc/t/_tone.prompt"][a % 4];
                self.write(name, &format!("part {}", b % 3));
            }
            What::StrayPartial => match self.root.join("t/stray.hbs") {
                path if path.exists() => fs_err::remove_file(path).expect("a file"),
                _ => self.write("t/stray.hbs", "stray"),
            },
            What::Env => self.env = (b % 3).to_string(),
            What::OutputGone => {
                if let Some(name) = self.output(a) {
                    fs_err::remove_file(self.root.join(name)).expect("a file");
                }
            }
            What::OutputTouch => {
                if let Some(path) = self.output(a).map(|name| self.root.join(name)) {
                    let bytes = fs_err::read(&path).expect("a file");
                    fs_err::write(path, bytes).expect("a file");
                }
            }
            // What was an output before this step, and is none now, would be taken for a source; so would one whose `when` has
            // become false.
            What::LockGone | What::LockLine if !is_first || self.model.switch != 0 => {}
            What::LockGone => {
                self.lost.lock = true;
                drop(fs_err::remove_file(self.root.join(self.lock_name())));
                match b % 4 {
                    0 => self.apply(Edit(What::StateGone, 0, 0), false),
                    1 => self.apply(Edit(What::StoreGone, 0, 0), false),
                    2 => self.apply(Edit(What::OwnGone, 0, 0), false),
                    _ => {}
                }
            }
            What::LockLine => {
                let path = self.root.join(self.lock_name());
                let text = fs_err::read_to_string(&path).unwrap_or_default();
                let Some(line) = nth(text.lines().skip(1), a) else { return };
                self.lost.lines.extend(line.split(' ').next().map(str::to_owned));
                fs_err::write(path, text.replace(&format!("{line}\n"), "")).expect("a lock");
            }
            What::StateGone => {
                self.lost.state = true;
                drop(fs_err::remove_file(self.own("state")));
            }
            What::StateDamaged => {
                let Ok(mut bytes) = fs_err::read(self.own("state")) else { return };
                self.lost.state = true;
                let at = a % bytes.len().max(1);
                match b % 4 {
                    0 => bytes.truncate(at),
                    1 => bytes.clear(),
                    2 => bytes.extend(b"more"),
                    _ => drop(bytes.get_mut(at).map(|byte| *byte ^= 1 << (b % 8))),
                }
                fs_err::write(self.own("state"), bytes).expect("a state");
            }
            What::StateOld => {
                let Some(bytes) = nth(self.states.iter().cloned(), a) else { return };
                self.lost.state = true;
                fs_err::create_dir_all(self.own("")).expect("a folder");
                fs_err::write(self.own("state"), bytes).expect("a state");
            }
            What::JournalDamaged => {
                fs_err::create_dir_all(self.own("")).expect("a folder");
                fs_err::write(self.own("journal"), &b"\x20\0\0\0garbage and more"[..a % 16]).expect("a journal");
            }
            What::StoreGone => {
                self.lost.store = true;
                drop(fs_err::remove_dir_all(self.own("store")));
            }
            What::ObjectDamaged => {
                if let Some(path) = nth(self.objects(), a) {
                    self.lost.damaged = true;
                    let mut bytes = fs_err::read(&path).expect("an object");
                    let at = b % bytes.len().max(1);
                    match b % 5 {
                        0 => bytes.truncate(at),
                        _ => drop(bytes.get_mut(at).map(|byte| *byte ^= 1 << (b % 8))),
                    }
                    fs_err::write(path, bytes).expect("an object");
                }
            }
            What::OwnGone => {
                (self.lost.state, self.lost.store) = (true, true);
                drop(fs_err::remove_dir_all(self.own("")));
            }
            What::Revert => {
                let Some(Snapshot { model, tree }) = nth(self.past.iter().cloned(), a) else { return };
                let sources = tree.into_iter().filter(|(name, _)| !self.is_made(name)).collect();
                lay(&self.root, &sources, |name| self.is_made(name));
                self.model = model;
            }
            What::Checkout => {
                let Some(Snapshot { model, tree }) = nth(self.past.iter().cloned(), a) else { return };
                lay(&self.root, &tree, |name| name.starts_with("other/") || name == "Other.yaml.lock");
                self.model = model;
            }
            _ => {
                self.change_model(what, a, b);
                self.write_model();
            }
        }
    }

    fn change_model(&mut self, what: What, a: usize, b: usize) {
        let model = &mut self.model;
        let count = model.rules.len();
        match what {
            // The entry and the section that inputs name stay.
            What::Entry if b % 5 == 4 && !a.is_multiple_of(4) => drop(model.entries.remove(&(a % 4))),
            What::Entry => drop(model.entries.insert(a % 4, b % 4)),
            What::Section if b % 4 == 3 && !a.is_multiple_of(3) => drop(model.sections.remove(&(a % 3))),
            What::Section => drop(model.sections.insert(a % 3, b % 3)),
            What::Variable => model.variable = b % 3,
            What::Switch => model.switch = b % 2,
            What::ModelName => model.model = b % 3,
            What::Turn => model.is_turned = !model.is_turned,
            What::Recipe => model.rules[a % count].version = b % 4,
            What::Check => model.rules[a % count].check = b % 3,
            What::RuleGone => {
                let id = a % count;
                if !model.rules.iter().any(|rule| rule.alive && rule.needs(id)) {
                    model.rules[id].alive = false;
                }
            }
            What::RuleBack => {
                let gone = nth(model.rules.iter().filter(|rule| !rule.alive).map(|rule| rule.id), a);
                if let Some(id) = gone {
                    let needs = |rule: &Rule| model.rules.iter().all(|other| other.alive || !rule.needs(other.id));
                    let comes = needs(&model.rules[id]);
                    model.rules[id].alive = comes;
                }
            }
            _ => {}
        }
    }
}

const SCHEMAS: [&str; 2] = ["{\"type\": \"object\"}", "{\"type\": \"object\", \"required\": [\"rule\"]}"];
