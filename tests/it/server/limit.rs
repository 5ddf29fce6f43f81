//! How much the server takes in a time: it enforces that, and may say what is left as providers do.

use std::time::{Duration, Instant, SystemTime};

use super::{Act, Format};

/// What the server takes, and how it counts.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// How it counts.
    pub shape: Shape,
    /// How many requests in a period.
    pub requests: Option<u64>,
    /// How many tokens in a period: of prompts as they come, of answers as they go.
    pub tokens: Option<u64>,
    /// The time in which a bucket fills, or the length of a window.
    pub period: Duration,
    /// Whether answers say what is left.
    pub is_said: bool,
}

/// How a limit is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A bucket that is full at first, holds what a period takes, and fills all the time.
    Bucket,
    /// Windows one behind the other, the first of which begins with the server.
    Window,
}

/// A limit, and what was used of it.
pub(super) struct Enforced {
    pub limit: Limit,
    requests: Account,
    tokens: Account,
    /// How many requests it refused.
    pub refused: usize,
}

/// What is left of one thing; less than nothing where an answer took more than there was.
struct Account {
    most: Option<f64>,
    left: f64,
    at: Instant,
}

impl Enforced {
    pub fn new(limit: Limit, now: Instant) -> Enforced {
        let account = |most: Option<u64>| Account {
            most: most.map(|most| most as f64),
            left: most.unwrap_or_default() as f64,
            at: now,
        };
        Enforced { limit, requests: account(limit.requests), tokens: account(limit.tokens), refused: 0 }
    }

    /// Takes a request in, or says how it is refused.
    pub fn admit(&mut self, now: Instant, tokens: usize) -> Option<Act> {
        let (limit, tokens) = (self.limit, tokens as f64);
        self.requests.refill(&limit, now);
        self.tokens.refill(&limit, now);
        let wait = self.requests.lacks(&limit, 1.0, now).max(self.tokens.lacks(&limit, tokens, now));
        if wait > Duration::ZERO {
            self.refused += 1;
            let error = Act::error(429, "requests", "rate_limit_exceeded", "Rate limit reached.");
            return Some(error.header("retry-after-ms", &wait.as_millis().max(1).to_string()));
        }
        self.requests.left -= 1.0;
        self.tokens.left -= tokens;
        None
    }

    /// Counts an answer.
    pub fn answered(&mut self, now: Instant, tokens: usize) {
        self.tokens.refill(&self.limit, now);
        self.tokens.left -= tokens as f64;
    }

    /// What is left, as a format's headers say it.
    pub fn headers(&self, format: Format, now: Instant) -> Vec<(String, String)> {
        if !self.limit.is_said {
            return Vec::new();
        }
        let clock = SystemTime::now();
        let mut headers = vec![("date".to_owned(), httpdate::fmt_http_date(clock))];
        for (account, chat, messages) in
            [(&self.requests, "requests", "requests"), (&self.tokens, "tokens", "input-tokens")]
        {
            let Some(most) = account.most else { continue };
            let left = account.left.max(0.0).floor();
            let reset = account.whole_in(&self.limit, now);
            let mut header = |name: String, value: String| headers.push((name, value));
            match format {
                Format::Chat | Format::Responses | Format::Embeddings => {
                    header(format!("x-ratelimit-limit-{chat}"), most.to_string());
                    header(format!("x-ratelimit-remaining-{chat}"), left.to_string());
                    header(format!("x-ratelimit-reset-{chat}"), format!("{}ms", reset.as_millis()));
                }
                Format::Messages => {
                    let reset = humantime::format_rfc3339_seconds(clock + reset).to_string();
                    header(format!("anthropic-ratelimit-{messages}-limit"), most.to_string());
                    header(format!("anthropic-ratelimit-{messages}-remaining"), left.to_string());
                    header(format!("anthropic-ratelimit-{messages}-reset"), reset);
                }
                // It says nothing of what is left.
                Format::Gemini | Format::GeminiEmbeddings => {}
            }
        }
        headers
    }
}

impl Account {
    fn refill(&mut self, limit: &Limit, now: Instant) {
        let Some(most) = self.most else { return };
        let since = now.saturating_duration_since(self.at);
        match limit.shape {
            Shape::Bucket => {
                self.left = most.min(self.left + most * since.as_secs_f64() / limit.period.as_secs_f64());
                self.at = now;
            }
            Shape::Window if since >= limit.period => {
                let windows = (since.as_secs_f64() / limit.period.as_secs_f64()).floor();
                self.at += limit.period.mul_f64(windows);
                self.left = most;
            }
            Shape::Window => {}
        }
    }

    /// How long until so much is there.
    fn lacks(&self, limit: &Limit, amount: f64, now: Instant) -> Duration {
        let Some(most) = self.most else { return Duration::ZERO };
        match limit.shape {
            _ if self.left >= amount => Duration::ZERO,
            Shape::Bucket => limit.period.mul_f64((amount - self.left) / most),
            Shape::Window => (self.at + limit.period).saturating_duration_since(now),
        }
    }

    /// How long until all is there again.
    fn whole_in(&self, limit: &Limit, now: Instant) -> Duration {
        self.lacks(limit, self.most.unwrap_or_default(), now)
    }
}
