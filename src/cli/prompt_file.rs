//! `prompt --file F`: a prompt file by itself, rendered with the format's own semantics. Knows no Genfile.

use std::path::Path;

use serde_json::{Map, Value};

use super::args::Format;
use super::prompt::heading;
use super::{Context, Exit};
use crate::error::{Code, Error, Errors};
use crate::prompt::{Data, Dotprompt};
use crate::ui;

pub(super) fn run(context: &Context, file: &Path, data: Option<&str>) -> Result<Exit, Errors> {
    let text = read(file)?;
    let prompt = Dotprompt::parse(&file.display().to_string(), &text, &Map::new()).map_err(Errors)?;
    let data = data.map(data_of).transpose()?.unwrap_or_default();
    let rendered = prompt.render(&partials(file)?, &data)?;
    match context.options.format {
        Format::Json => ui::out(&format!("{:#}\n", Value::from(rendered))),
        _ => ui::out(&ui::sanitize(&to_text(&rendered))),
    }
    Ok(Exit(0))
}

fn unreadable(e: impl ToString) -> Error {
    Error::new(Code::Unreadable, e.to_string())
}

fn read(file: &Path) -> Result<String, Error> {
    let bytes = fs_err::read(file).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| unreadable(format!("`{}` is not UTF-8 text", file.display())))
}

/// JSON as text, `@FILE`, or `-` for standard input.
fn data_of(text: &str) -> Result<Data, Error> {
    let (from, text) = match text.strip_prefix('@') {
        Some(file) => (file, read(Path::new(file))?),
        None if text == "-" => ("standard input", std::io::read_to_string(std::io::stdin()).map_err(unreadable)?),
        None => ("`--data`", text.to_owned()),
    };
    let wrong = |what: String| {
        Error::new(Code::BadValue, what).hint("`--data '{\"name\": \"value\"}'`, `--data @FILE`, or `--data -`")
    };
    let value: Value = serde_json::from_str(&text).map_err(|e| wrong(format!("{from} is not JSON: {e}")))?;
    Data::new(value).map_err(|what| wrong(format!("{from}: {what}")))
}

/// The partials beside a prompt file: `*.hbs` and `_*.prompt`.
fn partials(file: &Path) -> Result<Vec<(String, String)>, Error> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut partials = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = match path.extension().and_then(|ext| ext.to_str()) {
            Some("hbs") => stem,
            Some("prompt") => stem.strip_prefix('_').unwrap_or_default(),
            _ => "",
        };
        if !name.is_empty() && path.file_name() != file.file_name() {
            partials.push((name.to_owned(), read(&path)?));
        }
    }
    partials.sort();
    Ok(partials)
}

fn to_text(rendered: &Map<String, Value>) -> String {
    let mut text = String::new();
    if let Some(model) = rendered.get("model").and_then(Value::as_str) {
        text += &format!("model: {model}\n");
    }
    for name in ["config", "input", "output"] {
        let value = rendered.get(name).filter(|value| value.as_object().is_some_and(|map| !map.is_empty()));
        text.extend(value.map(|value| format!("{name}: {value}\n")));
    }
    for message in rendered.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let metadata = message.get("metadata").map(|metadata| format!(" {metadata}")).unwrap_or_default();
        let name = format!("{}{metadata}", message["role"].as_str().unwrap_or_default());
        let parts = message["content"].as_array().into_iter().flatten();
        let parts: Vec<String> =
            parts.map(|part| part["text"].as_str().map_or_else(|| format!("{part}"), str::to_owned)).collect();
        text += &heading(&name, &parts.join("\n"));
    }
    text
}
