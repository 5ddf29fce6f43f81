//! `gc`: prunes the store. What the lock or this machine's memory name stays, and what a current key was answered with.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::{Context, Exit};
use crate::error::{Code, Error, Errors};
use crate::lock::{self, Lock};
use crate::plan::Making;
use crate::project::{Location, Planned, Project};
use crate::store::{Freed, Needed};
use crate::ui;

pub(super) fn run(context: &Context, keep: Duration) -> Result<Exit, Errors> {
    let location = context.location()?;
    let dry = context.options.dry_run;
    let project = match dry {
        true => Project::open_at(&location, &context.env)?,
        false => Project::open_to_run(&location, &context.env, || ui::say("     wait  another genmake runs here"))?,
    };
    let planned = project.plan_as(&[], context.wish(), &context.jobs)?;
    let needed = needed(&planned, &location)?;
    // Longer ago than there is time: nothing is that old.
    let since = SystemTime::now().checked_sub(keep).unwrap_or(SystemTime::UNIX_EPOCH);
    let freed = planned.store().prune(needed, since, dry)?;
    if !context.options.silent {
        ui::say(&closing(&freed, dry));
    }
    Ok(Exit(0))
}

/// What stays, however old it is.
fn needed(planned: &Planned, location: &Location) -> Result<Needed, Error> {
    let mut needed = Needed::default();
    let mut lock = |lock: &Lock| {
        for (_, entry) in lock.all() {
            needed.blobs.extend([Some(entry.content), entry.base].into_iter().flatten());
            needed.keys.insert(entry.key);
        }
    };
    lock(planned.lock());
    // Other Genfiles of the same root share the store.
    let unreadable = |e: std::io::Error| Error::new(Code::Unreadable, e.to_string());
    for entry in fs_err::read_dir(&location.root).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".lock") && name != location.lock_name() && entry.path().is_file() {
            let text = fs_err::read(entry.path()).map_err(unreadable)?;
            let text = String::from_utf8_lossy(&text);
            if lock::is_lock(&text) {
                lock(&Lock::parse(&name, &text)?);
            }
        }
    }
    for (content, key) in planned.memory().outputs.values().flatten() {
        needed.blobs.insert(*content);
        needed.keys.insert(*key);
    }
    needed.keys.extend(planned.memory().tasks.values().map(|task| task.key));
    let judged = planned.plan.tasks.iter().flatten().flatten();
    let keys: HashSet<_> = judged.filter_map(|judged| judged.key).collect();
    needed.keys.extend(keys);
    // What is up to date was not rendered; of what cannot be rendered now nothing more is known.
    let graph = planned.graph();
    for task in (0..graph.tasks.len()).filter(|task| graph.tasks[*task].items.is_some()) {
        match planned.making(task) {
            Ok(Making::Collection(made)) => {
                let store = planned.store();
                needed.keys.extend(made.keys(store, &|digest| store.get(digest)));
            }
            Ok(Making::Embedding(made)) => needed.vectors.extend(made.texts.iter().map(|text| text.key)),
            _ => {}
        }
    }
    Ok(needed)
}

fn closing(freed: &Freed, dry: bool) -> String {
    let counts = [
        (freed.results, "result"),
        (freed.blobs, "blob"),
        (freed.replies, "reply"),
        (freed.vectors, "vector"),
        (freed.damaged, "damaged blob"),
    ];
    let parts: Vec<String> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, thing)| match (*n, *thing) {
            (2.., "reply") => format!("{n} replies"),
            (n, thing) => ui::count(n, thing),
        })
        .collect();
    if parts.is_empty() {
        return "nothing to free: the store holds only what is needed or young".to_owned();
    }
    let would = if dry { "would free" } else { "freed" };
    format!("{would} {}: {}", indicatif::HumanBytes(freed.bytes), parts.join(", "))
}
