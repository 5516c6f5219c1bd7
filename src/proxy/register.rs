//! This proxy as the others see it: namesrv hears it every second, so that they can ask it for its clients. Nothing that
//! clients do depends on that.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use apogee_host::{Entropy as _, OnError, OsEntropy, Tasks};
use apogee_model::{BadNodeName, NodeName, ProxyNode};
use apogee_namesrv::{BEAT, NamesrvClient};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Longest name there may be.
const NAME_MAX: usize = 63;
/// Time to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

/// What this proxy shows of itself: the name of its pod; without one that of its machine and the port of its clients,
/// because a machine may have several.
pub(super) fn myself(
    pod: Option<&str>,
    machine: &str,
    grpc: SocketAddr,
    admin: String,
) -> Result<ProxyNode, BadNodeName> {
    let name = pod.map_or_else(|| format!("{machine}-{}", grpc.port()), str::to_owned);
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(fit).collect();
    let name = NodeName::parse(&name[name.len().saturating_sub(NAME_MAX)..])?;
    Ok(ProxyNode { name, admin, incarnation: OsEntropy.next_u64() })
}

/// Lets namesrv hear `me` until the tasks close.
pub(super) fn show(client: NamesrvClient, me: ProxyNode, tasks: &Tasks) {
    let stop = tasks.token();
    tasks.spawn("proxy-beat", OnError::StopProcess, async move {
        beat(&client, &me, stop).await;
        let _forgotten_after_ten_seconds_anyway = timeout(GOODBYE_MAX, client.forget_proxy(&me)).await;
        Ok::<_, Infallible>(())
    });
}

async fn beat(client: &NamesrvClient, me: &ProxyNode, stop: CancellationToken) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unheard = false;
    while stop.run_until_cancelled(beats.tick()).await.is_some() {
        let Some(heard) = stop.run_until_cancelled(client.hear_proxy(me)).await else { return };
        if let Err(error) = &heard
            && !unheard
        {
            tracing::warn!(event = "proxy_unheard", %error, "other proxies will not ask this one for its clients");
        }
        unheard = heard.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_what_there_is() {
        let grpc = SocketAddr::from(([127, 0, 0, 1], 8081));
        let name = |pod, machine: &str| myself(pod, machine, grpc, String::new()).map(|me| me.name.as_str().to_owned());
        assert_eq!(name(Some("apogee-proxy-7d4b9-x2x"), "m").as_deref(), Ok("apogee-proxy-7d4b9-x2x"));
        assert_eq!(name(None, "Büro_1.Example").as_deref(), Ok("b-ro-1.example-8081"));
        assert_eq!(name(None, &"x".repeat(100)).map(|name| (name.len(), name.ends_with("x-8081"))), Ok((63, true)));
    }
}
