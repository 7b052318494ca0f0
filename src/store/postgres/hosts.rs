//! The hosts of a URL, each with its share of the time.

use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{ConfigConnectImpl, Connect};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::LoadBalanceHosts;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::call::PATIENCE;

/// Tries one host after another. The driver would, too, but it waits for ever
/// for one that accepts and then says nothing.
pub(super) struct Hosts {
    /// Each with one host, if they can be told apart.
    each: Vec<Config>,
    share: Duration,
    driver: ConfigConnectImpl<NoTls>,
}

impl Hosts {
    /// The hosts of `url`, which `whole` was read from.
    pub(super) fn of(url: &str, whole: &Config) -> Self {
        let count = whole.get_hosts().len().max(whole.get_hostaddrs().len());
        // One share more than hosts: for the last one's session, or for the
        // second address of a name.
        let shares = u32::try_from(count.saturating_add(1)).unwrap_or(u32::MAX);
        let most = PATIENCE / shares;
        let share = whole.get_connect_timeout().map_or(most, |wanted| most.min(*wanted));
        let mut each: Vec<_> = one_host_each(url).iter().filter_map(|one| Config::from_str(one).ok()).collect();
        if each.len() != count || whole.get_hostaddrs().len() > 1 {
            each = vec![whole.clone()];
        }
        for one in &mut each {
            one.connect_timeout(share);
            if one.get_application_name().is_none() {
                one.application_name("tower-idempotency");
            }
        }
        Self { each, share, driver: ConfigConnectImpl { tls: NoTls } }
    }
}

type Opened<'c> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'c>>;

impl Connect for Hosts {
    fn connect(&self, whole: &Config) -> Opened<'_> {
        let mut each: Vec<_> = self.each.iter().collect();
        if whole.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut each);
        }
        let Some(last) = each.pop() else { return self.driver.connect(whole) };
        Box::pin(async move {
            for one in each {
                if let Ok(Ok(opened)) = timeout(self.share, self.driver.connect(one)).await {
                    return Ok(opened);
                }
            }
            // The last host has the time that is left.
            self.driver.connect(last).await
        })
    }
}

/// The same URL with each of its hosts alone.
fn one_host_each(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return Vec::new() };
    let (user, rest) = rest.split_at(rest.find('@').map_or(0, |at| at + 1));
    let (hosts, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{rest}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Vec<usize> {
        let hosts = Hosts::of(url, &url.parse().unwrap());
        hosts.each.iter().map(|one| one.get_hosts().len().max(one.get_hostaddrs().len())).collect()
    }

    #[test]
    fn hosts_are_told_apart_where_they_can_be() {
        for (url, each) in [
            ("postgres://h/d", vec![1]),
            ("postgres://u:p@h1:1,[::1]:2,%2Frun/d?connect_timeout=9", vec![1, 1, 1]),
            ("postgresql://h1,h2?user=u", vec![1, 1]),
            ("postgres://u@h1,h2/d?hostaddr=1.1.1.1,1.1.1.2", vec![2]),
            ("postgres://u@/d?host=h1&host=h2", vec![2]),
            ("postgres://u@h1/d?host=h2", vec![2]),
            ("postgres:///d?hostaddr=1.1.1.1", vec![1]),
            ("host=h1,h2 user=u", vec![2]),
        ] {
            assert_eq!(hosts(url), each, "{url}");
        }
    }
}
