//! A run as spans for OpenTelemetry: the run, its requests and its tasks, in the JSON form of OTLP over HTTP. Where they go, the
//! standard's variables say; who sends them is another's.
//!
//! Attributes of requests have the names of the conventions for generative AI where these fit, all others begin with `genmake.`.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::digest::{Digest, Framed};
use crate::report::{Report, RequestLine, TaskLine};

/// So many spans go at once: receivers take no endless bodies.
const AT_ONCE: usize = 1000;

/// Where spans go, and what is said beside them.
pub struct Otlp {
    /// The address.
    pub address: String,
    /// Headers, which may hold keys: they are shown nowhere.
    pub headers: Vec<(String, String)>,
    /// How long is waited for an answer.
    pub timeout: Duration,
    resource: Vec<(String, String)>,
    /// The trace and the span that this run is a part of.
    parent: Option<(String, String)>,
}

impl Otlp {
    /// As the standard's variables say; `None` where they name no place. `env` reads the environment.
    ///
    /// # Errors
    /// In words: they ask for what genmake cannot do.
    pub fn of(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Otlp>, String> {
        let said = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let for_traces = |name: &str| {
            said(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).or_else(|| said(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let is_off = said("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let goes_elsewhere =
            said("OTEL_TRACES_EXPORTER").is_some_and(|names| !names.split(',').any(|n| n.trim() == "otlp"));
        // That of traces is the whole address, the other where all kinds are below.
        let below = |base: String| format!("{}/v1/traces", base.trim_end_matches('/'));
        let address =
            said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| said("OTEL_EXPORTER_OTLP_ENDPOINT").map(below));
        let Some(address) = address.filter(|_| !is_off && !goes_elsewhere) else { return Ok(None) };
        if let Some(protocol) = for_traces("PROTOCOL").filter(|protocol| !protocol.starts_with("http/")) {
            return Err(format!("`OTEL_EXPORTER_OTLP_PROTOCOL` is `{protocol}`, and genmake sends by `http/json`"));
        }
        let timeout = for_traces("TIMEOUT").and_then(|ms| ms.parse().ok()).unwrap_or(10_000);
        let mut resource = said("OTEL_RESOURCE_ATTRIBUTES").map(|text| pairs(&text)).unwrap_or_default();
        let service = said("OTEL_SERVICE_NAME");
        if service.is_some() || !resource.iter().any(|(name, _)| name == "service.name") {
            resource.retain(|(name, _)| name != "service.name");
            resource.push(("service.name".to_owned(), service.unwrap_or_else(|| "genmake".to_owned())));
        }
        resource.push(("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        let headers = for_traces("HEADERS").map(|text| pairs(&text)).unwrap_or_default();
        let parent = said("TRACEPARENT").and_then(|text| parent(&text));
        Ok(Some(Otlp { address, headers, timeout: Duration::from_millis(timeout), resource, parent }))
    }

    /// What to send, one body after the other. `seed` tells this run from all others.
    pub fn bodies(&self, report: &Report, seed: &str) -> Vec<Value> {
        let seed = Framed::new("trace-1").field(seed).field(&report.began).finish();
        let begin = humantime::parse_rfc3339(&report.began).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let trace = match &self.parent {
            Some((trace, _)) => trace.clone(),
            None => hex(seed, "trace", 32),
        };
        let spans = Spans { seed, trace, root: hex(seed, "run", 16), begin: begin.unwrap_or_default() };
        let mut all = vec![spans.run(report, self.parent.as_ref().map(|(_, span)| span.as_str()))];
        let of_vectors = report.tasks.iter().filter(|task| task.embedding.is_some()).map(TaskLine::name);
        let of_vectors: HashSet<&str> = of_vectors.collect();
        let asks = |line: &RequestLine| {
            let is_of_vectors = line.outputs.first().is_some_and(|name| of_vectors.contains(name.as_str()));
            if is_of_vectors { "embeddings" } else { "chat" }
        };
        all.extend(report.requests.iter().enumerate().map(|(at, line)| spans.request(at, line, asks(line))));
        all.extend(report.tasks.iter().filter(|task| task.status != "fresh").map(|task| spans.task(task)));
        let resource: Vec<Value> = self.resource.iter().map(|(name, value)| attribute(name, json!(value))).collect();
        let body = |spans: &[Value]| {
            json!({"resourceSpans": [{
                "resource": {"attributes": resource},
                "scopeSpans": [{"scope": {"name": "genmake", "version": report.genmake}, "spans": spans}],
            }]})
        };
        all.chunks(AT_ONCE).map(body).collect()
    }
}

struct Spans {
    seed: Digest,
    trace: String,
    root: String,
    begin: Duration,
}

impl Spans {
    fn span(&self, id: &str, name: &str, kind: u8, (begin, took): (u64, u64), attributes: Vec<Value>) -> Value {
        let at = |ms: u64| (self.begin + Duration::from_millis(ms)).as_nanos().to_string();
        json!({
            "traceId": self.trace, "spanId": id, "parentSpanId": self.root, "name": name, "kind": kind,
            "startTimeUnixNano": at(begin), "endTimeUnixNano": at(begin + took), "attributes": attributes,
        })
    }

    fn run(&self, report: &Report, parent: Option<&str>) -> Value {
        let attributes = vec![
            attribute("genmake.exit", json!(report.exit)),
            attribute("genmake.tasks", json!(report.targets.total)),
            attribute("genmake.requests", json!(report.llm.requests)),
            attribute("genmake.cost_usd", json!(report.llm.cost_usd)),
        ];
        let mut span = self.span(&self.root, "genmake", INTERNAL, (0, report.duration_ms), attributes);
        span["parentSpanId"] = json!(parent.unwrap_or_default());
        if report.exit != 0 {
            span["status"] = json!({"code": ERROR});
        }
        span
    }

    fn request(&self, at: usize, line: &RequestLine, asks: &str) -> Value {
        let attributes = vec![
            attribute("gen_ai.operation.name", json!(asks)),
            attribute("gen_ai.provider.name", json!(line.provider)),
            attribute("gen_ai.request.model", json!(line.model)),
            attribute("gen_ai.usage.input_tokens", json!(line.input_tokens)),
            attribute("gen_ai.usage.output_tokens", json!(line.output_tokens)),
            attribute("gen_ai.usage.cache_read.input_tokens", json!(line.cached_input_tokens)),
            attribute("genmake.request", json!(line.request)),
            attribute("genmake.tasks", json!(line.tasks)),
            attribute("genmake.good", json!(line.good)),
            attribute("genmake.retries", json!(line.retries)),
            attribute("genmake.fallback", json!(line.fallback.as_ref().map(|fallback| &fallback.why))),
            attribute("genmake.cost_usd", json!(line.cost_usd)),
        ];
        let id = hex(self.seed, &format!("request {at}"), 16);
        let mut span =
            self.span(&id, &format!("{asks} {}", line.model), CLIENT, (line.begin_ms, line.duration_ms), attributes);
        if line.outcome != "answered" {
            span["status"] = json!({"code": ERROR, "message": line.outcome});
        }
        span
    }

    fn task(&self, task: &TaskLine) -> Value {
        let attributes = vec![
            attribute("genmake.output", json!(task.name())),
            attribute("genmake.rule", json!(task.rule)),
            attribute("genmake.status", json!(task.status)),
            attribute("genmake.reasons", json!(task.reasons.join("; "))),
            attribute("genmake.request", json!(task.batch)),
            attribute("genmake.cost_usd", json!(task.cost_usd)),
        ];
        let of = |name: &str| hex(self.seed, &format!("task {name}"), 16);
        let mut span = self.span(&of(task.name()), &task.rule, INTERNAL, (task.begin_ms, task.duration_ms), attributes);
        let waited = task.waited_for.iter().map(|name| json!({"traceId": self.trace, "spanId": of(name)}));
        span["links"] = waited.collect::<Vec<_>>().into();
        if let Some(error) = &task.error {
            span["status"] = json!({"code": ERROR, "message": error.code});
        }
        span
    }
}

/// Kinds of spans, and the status of one that failed, as OTLP counts them.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// An attribute, as OTLP writes values; what is not known has none.
fn attribute(key: &str, value: Value) -> Value {
    let value = match value {
        Value::Null => json!({}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
        // Whole numbers are text there, as 64 bits do not fit into a number of JavaScript.
        other => json!({"intValue": other.to_string()}),
    };
    json!({"key": key, "value": value})
}

fn hex(seed: Digest, what: &str, digits: usize) -> String {
    let digest = Framed::new("span-1").field(seed.bytes()).field(what).finish();
    digest.bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..digits].to_owned()
}

/// `key=value` pairs with commas, values in percent encoding, as the standard has headers and attributes.
fn pairs(text: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decoded(key), decoded(value))).collect()
}

/// The trace and the span that `TRACEPARENT` names, as W3C's trace context has it.
fn parent(text: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = text.split('-').collect();
    let [_, trace, span, _] = parts[..] else { return None };
    let is_id = |id: &str, digits: usize| {
        let is_hex = id.len() == digits && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        is_hex && id.bytes().any(|b| b != b'0')
    };
    (is_id(trace, 32) && is_id(span, 16)).then(|| (trace.to_owned(), span.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(vars: &[(&str, &str)]) -> Result<Option<Otlp>, String> {
        Otlp::of(&|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn variables_mean_what_the_standard_says() {
        let address = |vars: &[(&str, &str)]| of(vars).unwrap().map(|otlp| otlp.address);
        assert_eq!(address(&[]), None);
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318/");
        assert_eq!(address(&[base]).as_deref(), Some("http://h:4318/v1/traces"));
        let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/x");
        assert_eq!(address(&[base, whole]).as_deref(), Some("http://t/x"));
        assert_eq!(address(&[base, ("OTEL_SDK_DISABLED", "TRUE")]), None);
        assert_eq!(address(&[base, ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert!(of(&[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_err());
        assert_eq!(address(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), None);
        let otlp = of(&[
            base,
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%3Db, x = y"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=b%2Cc"),
            ("OTEL_SERVICE_NAME", "mine"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
        ]);
        let otlp = otlp.unwrap().unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(otlp.headers, [pair("api-key", "a=b"), pair("x", "y")]);
        assert_eq!(otlp.resource[..2], [pair("team", "b,c"), pair("service.name", "mine")]);
        assert_eq!(otlp.timeout, Duration::from_millis(500));
    }

    #[test]
    fn a_parent_is_taken_if_it_is_one() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(parent(&format!("00-{trace}-{span}-01")), Some((trace.to_owned(), span.to_owned())));
        for wrong in [
            "",
            "00",
            &format!("00-{trace}-{span}"),
            &format!("00-{}-{span}-01", "0".repeat(32)),
            &format!("00-{trace}-XX-01"),
        ] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
    }
}
