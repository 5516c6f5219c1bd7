//! Telemetry: what a client says about itself, and what we ask of it in return.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::{DeliveryOrder, GroupConfig, LiteGroup, RetryPolicy, Topic};

use super::lite::check_role;
use super::{Call, Language, ServiceError};
use crate::route::Directory;
use crate::session::{Named, Role, Sessions, Subscriptions};

/// What a client says about itself.
#[derive(Clone, Debug)]
pub(crate) struct ClientSettings {
    pub role: Role,
    /// Those it sends to or subscribes to.
    pub topics: Named,
    /// All of them.
    pub named: Vec<Topic>,
    /// Of a consumer.
    pub subscriptions: Subscriptions,
    pub request_timeout: Option<Duration>,
}

/// What we ask of the client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Agreed {
    Producer,
    Consumer { fifo: bool, max_attempts: u32, retry: RetryPolicy, lite_max: u32 },
}

pub(crate) struct Service {
    directory: Directory,
    sessions: Arc<Sessions>,
}

impl Service {
    pub(crate) fn new(directory: Directory, sessions: Arc<Sessions>) -> Self {
        Self { directory, sessions }
    }

    /// Remembers the client and says how it should behave. The first settings of a group create it, where that is
    /// allowed; where not, its defaults are told, and its first receive will say that it does not exist.
    pub(crate) async fn run(&self, call: &Call, settings: ClientSettings) -> Result<Agreed, ServiceError> {
        check_role(&self.directory, &settings.role, &settings.named)?;
        if let Role::Consumer { group, .. } = &settings.role {
            match self.directory.group_on_first_use(group).await {
                Ok(_) | Err(ServiceError::GroupNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let role = settings.role.clone();
        self.sessions.settings(call, settings)?;
        Ok(self.agreed(call, &role)) // only now: who changes the group later knows that this client is of it
    }

    /// How a client should behave, as its group is now.
    pub(crate) fn agreed(&self, call: &Call, role: &Role) -> Agreed {
        match role {
            Role::Producer => Agreed::Producer,
            Role::Consumer { group, .. } => {
                let config = self.directory.group(group);
                Agreed::Consumer {
                    // Lite topics are in order, whatever else the group says.
                    fifo: config
                        .as_ref()
                        .is_some_and(|config| config.order == DeliveryOrder::Fifo || config.lite.is_some()),
                    max_attempts: config
                        .as_ref()
                        .map_or(GroupConfig::MAX_ATTEMPTS_DEFAULT, |config| config.max_attempts),
                    lite_max: config
                        .as_ref()
                        .and_then(|config| config.lite.as_ref())
                        .map_or(LiteGroup::CLIENT_MAX_DEFAULT, |lite| lite.client_max),
                    retry: told(config.map(|config| config.retry.clone()).unwrap_or_default(), call.language),
                }
            }
        }
    }
}

/// The policy as an SDK of this language can follow it. That of Node.js ignores lists, and then gives up after one attempt;
/// it gets 5 s, doubled up to 15 min, instead. It takes the seconds for milliseconds: these rests are shorter than those of
/// most policies, and so the store takes the ones of the list.
fn told(policy: RetryPolicy, language: Language) -> RetryPolicy {
    match (language, policy) {
        (Language::NodeJs, RetryPolicy::Customized { .. }) => {
            RetryPolicy::Exponential { initial: Duration::from_secs(5), max: Duration::from_secs(900), multiplier: 2 }
        }
        (
            Language::NodeJs
            | Language::Java
            | Language::Go
            | Language::Rust
            | Language::Python
            | Language::Cpp
            | Language::DotNet
            | Language::Other,
            policy,
        ) => policy,
    }
}
