//! A Chromium without a window, driven through chromedriver.

use std::fmt::Debug;
use std::process::Stdio;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use url::Url;

/// What no page needs, and what would ask for something outside.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

pub struct Browser {
    pub client: Client,
    driver: Child,
    /// The browser's own folder.
    _folder: TempDir,
}

impl Browser {
    pub async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    pub async fn start_without_javascript() -> Self {
        Self::start_with(json!({ "profile.managed_default_content_settings.javascript": 2 })).await
    }

    async fn start_with(preferences: Value) -> Self {
        let mut driver = Command::new("chromedriver");
        driver.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut driver = driver.spawn().expect("chromedriver is missing: install it (Debian: apt-get install chromium-driver)");
        let port = port(&mut driver).await;
        let folder = tempfile::tempdir().unwrap();
        let own = format!("--user-data-dir={}", folder.path().display());
        let arguments: Vec<_> = ARGUMENTS.iter().copied().chain([own.as_str()]).collect();
        let options = json!({ "args": arguments, "prefs": preferences });
        let wanted = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
        let mut client = ClientBuilder::new(HttpConnector::new());
        let client = client.capabilities(wanted).connect(&format!("http://127.0.0.1:{port}")).await;
        let client = client.expect("chromedriver starts no Chromium: install it (Debian: apt-get install chromium)");
        Self { client, driver, _folder: folder }
    }

    /// Ends the browser, and waits for that.
    pub async fn end(mut self) {
        self.client.close().await.unwrap();
        self.driver.kill().await.unwrap();
    }

    /// A command of Chromium's own.
    pub async fn command(&self, name: &'static str, parameters: Value) {
        self.client.issue_cmd(Cdp { name, parameters }).await.unwrap();
    }

    pub async fn is_phone(&self) {
        let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true });
        self.command("Emulation.setDeviceMetricsOverride", phone).await;
    }

    pub async fn is_dark(&self) {
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.command("Emulation.setEmulatedMedia", dark).await;
    }

    pub async fn text(&self) -> String {
        self.client.find(Locator::Css("body")).await.unwrap().text().await.unwrap()
    }

    /// Expects these words on the page.
    pub async fn says(&self, words: &str) {
        let text = self.text().await;
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }

    pub async fn click(&self, link: &str) {
        let place = format!("//*[self::a or self::button][normalize-space()={link:?}]");
        self.client.find(Locator::XPath(&place)).await.unwrap().click().await.unwrap();
    }

    pub async fn evaluate(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Of the whole page, into the folder that `SCREENSHOTS` names, if it names one.
    pub async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else { return };
        let png = self.client.screenshot().await.unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }
}

async fn port(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once("successfully on port ") {
            return port.trim_end_matches('.').parse().unwrap();
        }
    }
    panic!("chromedriver says no port");
}

#[derive(Debug)]
struct Cdp {
    name: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for Cdp {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.name, "params": self.parameters });
        (Method::POST, Some(body.to_string()))
    }
}
