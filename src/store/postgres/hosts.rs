//! The hosts of a URL, each with its share of the time.

use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{ConfigConnectImpl, Connect};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};
use tokio_postgres::{Client, Config, Error, NoTls};

use super::call::PATIENCE;
use super::error::{is_of_tls, is_unwelcome};
use super::tls::{Mode, Tls};

/// Tries one host after another. The driver would, too, but it waits for ever
/// for one that accepts and then says nothing.
pub(super) struct Hosts {
    /// Each with one host, if they can be told apart.
    each: Vec<Config>,
    share: Duration,
    mode: Mode,
    plain: ConfigConnectImpl<NoTls>,
    /// None where plain text is all that is wanted, or all that is compiled in.
    encrypted: Option<Box<dyn Connect>>,
}

impl Hosts {
    /// The hosts of `url`, which `whole` was read from.
    pub(super) fn of(url: &str, whole: &Config, tls: &Tls) -> Result<Self, String> {
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
            // One of them is never encrypted, whatever is asked for.
            one.ssl_mode(if is_socket(one) { SslMode::Disable } else { tls.mode.of_driver() });
            name_addresses(one);
        }
        Ok(Self { each, share, mode: tls.mode, plain: ConfigConnectImpl { tls: NoTls }, encrypted: encrypted(tls)? })
    }

    /// Opens a connection to one host. As libpq does, `allow` and `prefer` try the other way
    /// where the server refuses the first, but not with a password that it took for wrong.
    async fn open(&self, one: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        match self.encrypted.as_ref().filter(|_| one.get_ssl_mode() != SslMode::Disable) {
            None => self.plain.connect(one).await,
            Some(encrypted) if self.mode == Mode::Allow => match self.plain.connect(one).await {
                Err(error) if is_unwelcome(&error) => encrypted.connect(one).await,
                opened => opened,
            },
            Some(encrypted) => match encrypted.connect(one).await {
                Err(error) if self.mode == Mode::Prefer && (is_of_tls(&error) || is_unwelcome(&error)) => {
                    self.plain.connect(one).await
                }
                opened => opened,
            },
        }
    }
}

#[cfg(feature = "postgres-tls")]
fn encrypted(tls: &Tls) -> Result<Option<Box<dyn Connect>>, String> {
    if tls.mode == Mode::Disable {
        return Ok(None);
    }
    let tls = super::certificates::connector(tls)?;
    Ok(Some(Box::new(ConfigConnectImpl { tls })))
}

#[cfg(not(feature = "postgres-tls"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it may fail")]
fn encrypted(_: &Tls) -> Result<Option<Box<dyn Connect>>, String> {
    Ok(None)
}

/// Whether it is a socket of this machine.
fn is_socket(one: &Config) -> bool {
    !one.get_hosts().is_empty() && one.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)))
}

/// An address that has no name is its own, which the driver needs for TLS.
fn name_addresses(one: &mut Config) {
    if one.get_hosts().is_empty() {
        for address in one.get_hostaddrs().to_vec() {
            one.host(address.to_string());
        }
    }
}

type Opened<'c> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'c>>;

impl Connect for Hosts {
    fn connect(&self, whole: &Config) -> Opened<'_> {
        let mut each: Vec<_> = self.each.iter().collect();
        if whole.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut each);
        }
        let Some(last) = each.pop() else { return self.plain.connect(whole) };
        Box::pin(async move {
            for one in each {
                if let Ok(Ok(opened)) = timeout(self.share, self.open(one)).await {
                    return Ok(opened);
                }
            }
            // The last host has the time that is left.
            self.open(last).await
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
    use crate::store::postgres::tls::TlsParameters;

    fn hosts(url: &str) -> Vec<usize> {
        let whole = url.parse().unwrap();
        let tls = TlsParameters::default().resolve(&whole).unwrap();
        let hosts = Hosts::of(url, &whole, &tls).unwrap();
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
