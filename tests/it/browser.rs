//! A real browser without a window, driven by WebDriver: chromium and its driver, where they are there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

use crate::clients::client;

/// A browser with one page; it ends when this is dropped.
pub struct Browser {
    driver: Child,
    agent: Agent,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// A browser of so many pixels; `None` where the test is to be left out.
    #[track_caller]
    pub fn open(width: u32, height: u32) -> Option<Browser> {
        let (chromium, driver) = (client("chromium")?, client("chromedriver")?);
        let profile = TempDir::with_prefix("genmake-browser-").expect("a temporary folder");
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the driver can be started");
        let mut said = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = said.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once("started successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        // What it says from here on is not read by anybody, and must not fill its pipe.
        std::thread::spawn(move || said.for_each(drop));
        let config = Agent::config_builder().proxy(None).http_status_as_error(false);
        let agent: Agent = config.timeout_global(Some(Duration::from_secs(60))).build().into();
        let base = format!("http://127.0.0.1:{}/session", port.expect("the driver says its port"));
        let data = format!("--user-data-dir={}", profile.path().display());
        let size = format!("--window-size={width},{height}");
        let mut args = vec![data, size];
        args.extend(
            [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--force-device-scale-factor=1",
            ]
            .map(str::to_owned),
        );
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": chromium, "args": args},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }}});
        let mut browser = Browser { driver, agent, session: base, _profile: profile };
        let id = browser.post("", wanted)["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    #[track_caller]
    fn post(&self, path: &str, body: Value) -> Value {
        let mut answer =
            self.agent.post(format!("{}{path}", self.session)).send_json(body).expect("the driver answers");
        let value: Value = answer.body_mut().read_json().expect("the driver speaks JSON");
        assert!(value["value"].get("error").is_none(), "{path}: {value:#}");
        value["value"].clone()
    }

    /// Opens a file as a page.
    #[track_caller]
    pub fn show(&self, file: &Path) -> &Self {
        self.post("/url", json!({"url": format!("file://{}", file.display())}));
        self
    }

    /// What a function's body gives in the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []}))
    }

    /// Presses a key: a character, or one of WebDriver's for keys that have none.
    #[track_caller]
    pub fn press(&self, key: char) {
        let actions = ["keyDown", "keyUp"].map(|what| json!({"type": what, "value": key.to_string()}));
        self.post("/actions", json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    /// Asks for a medium and for features of it, such as `("prefers-color-scheme", "dark")`.
    #[track_caller]
    pub fn medium(&self, medium: &str, features: &[(&str, &str)]) {
        let features: Vec<Value> = features.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        self.devtools("Emulation.setEmulatedMedia", json!({"media": medium, "features": features}));
    }

    #[track_caller]
    fn devtools(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": params}))
    }

    /// Gives the page so many pixels.
    #[track_caller]
    pub fn size(&self, width: u32, height: u32) {
        let of = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", of);
    }

    /// A picture of what is to be seen, as PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        use base64::Engine as _;
        let mut answer = self.agent.get(format!("{}/screenshot", self.session)).call().expect("the driver answers");
        let value: Value = answer.body_mut().with_config().limit(64 << 20).read_json().expect("the driver speaks JSON");
        let text = value["value"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
    }

    /// The addresses of all that pages have asked for since this was last asked, and what the console says. The browser's own
    /// first page is its own affair.
    #[track_caller]
    pub fn fetched(&self) -> (Vec<String>, Vec<String>) {
        let log = |kind: &str| self.post("/se/log", json!({"type": kind})).as_array().cloned().unwrap_or_default();
        let sent = log("performance").into_iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            (message["method"] == "Network.requestWillBeSent")
                .then(|| message["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        });
        let sent = sent.filter(|address| !address.starts_with("chrome:") && !address.starts_with("data:"));
        (sent.collect(), log("browser").iter().map(|entry| entry["message"].to_string()).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call(); // ends the browser, before the driver that would
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
