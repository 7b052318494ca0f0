//! A Chromium without a window, driven through chromedriver.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::prelude::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// What no page needs, and what would ask for something outside.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--window-size=1200,900",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// How long a page may take that follows a click.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is asked meanwhile.
const OFTEN: Duration = Duration::from_millis(20);

pub struct Browser {
    pub client: WebDriver,
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
        let mut driver =
            driver.spawn().expect("chromedriver is missing: install it (Debian: apt-get install chromium-driver)");
        let port = port(&mut driver).await;
        let folder = tempfile::tempdir().unwrap();
        let own = format!("--user-data-dir={}", folder.path().display());
        let mut wanted = DesiredCapabilities::chrome();
        for argument in ARGUMENTS.into_iter().chain([own.as_str()]) {
            wanted.add_arg(argument).unwrap();
        }
        wanted.add_experimental_option("prefs", preferences).unwrap();
        let client = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await;
        let client = client.expect("chromedriver starts no Chromium: install it (Debian: apt-get install chromium)");
        Self { client, driver, _folder: folder }
    }

    /// Ends the browser, and waits for that.
    pub async fn end(mut self) {
        self.client.quit().await.unwrap();
        self.driver.kill().await.unwrap();
    }

    /// A command of Chromium's own.
    pub async fn command(&self, name: &'static str, parameters: Value) {
        self.client.cdp().send_raw(name, parameters).await.unwrap();
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
        self.client.find(By::Css("body")).await.unwrap().text().await.unwrap()
    }

    /// Waits until the page has these words.
    pub async fn says(&self, words: &str) {
        let place = format!("//main[contains(., {words:?})]");
        let found = self.client.query(By::XPath(place)).wait(PATIENCE, OFTEN).exists().await;
        if !found.unwrap() {
            panic!("no {words:?} in:\n{}", self.text().await);
        }
    }

    pub async fn click(&self, link: &str) {
        let place = format!("//*[self::a or self::button][normalize-space()={link:?}]");
        self.client.find(By::XPath(place)).await.unwrap().click().await.unwrap();
    }

    pub async fn press(&self, key: Key) {
        self.client.action_chain().send_keys(key).perform().await.unwrap();
    }

    /// Types into the field of this name.
    pub async fn type_into(&self, field: &str, text: &str) {
        let field = self.client.find(By::Name(field)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    pub async fn evaluate(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap().json().clone()
    }

    /// Of the whole page, into the folder that `SCREENSHOTS` names, if it names one.
    pub async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else { return };
        let all = json!({ "captureBeyondViewport": true });
        let taken = self.client.cdp().send_raw("Page.captureScreenshot", all).await.unwrap();
        let png = BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
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
