//! Questions to a client, asked by the proxy that has a telemetry stream of it.
//!
//! The proxy that an operator talks to looks for that one, and passes the question on to its admin port.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::FetchedMessage;
use apogee_model::{ClientId, ConsumerGroup, ProxyNode, QueueId, Topic, TopicConfig};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::get_message_request::By;
use apogee_proto::admin::v1::verify_message_request;
use apogee_proto::v2;
use futures::StreamExt as _;
use futures::stream;
use tokio::time::{Instant, timeout};
use tonic::{Response, Status};

use super::clients::{Ask, Clients, Found, Here, Peer, client_id};
use super::error::AdminError;
use super::stored::shown;
use super::{Admin, known_group, known_topic};
use crate::Routes;
use crate::session::{Candidate, Question, Role, Said, Unanswered};

/// What a client has when nobody says otherwise.
///
/// Source: apache/rocketmq `proxy/.../ProxyConfig.java` (grpcProxyRelayRequestTimeoutInSeconds).
const WAIT: Duration = Duration::from_secs(5);
/// The longest that a client may have.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// An admin call has 10 s; the rest is the road.
const CALL_MAX: Duration = Duration::from_secs(9);
/// Time between what a client has and what the proxy that asks it has.
const ROAD: Duration = Duration::from_millis(500);
/// Proxies that are asked at a time.
const AT_ONCE: usize = 32;

/// Who can ask a client.
enum Asker<'a> {
    Here(&'a Here),
    Other(ProxyNode),
}

/// How long a client may take, and since when.
#[derive(Copy, Clone)]
struct Patience {
    wait: Duration,
    began: Instant,
}

impl Patience {
    fn new(wait_ms: u32) -> Self {
        let wait = if wait_ms == 0 { WAIT } else { Duration::from_millis(wait_ms.into()).min(WAIT_MAX) };
        Self { wait, began: Instant::now() }
    }

    /// What is left for the client itself.
    fn left(self) -> Duration {
        self.wait.min(CALL_MAX.saturating_sub(self.began.elapsed()))
    }

    fn left_ms(self) -> u32 {
        u32::try_from(self.left().as_millis()).expect("some seconds").max(1)
    }
}

impl Admin {
    pub(super) async fn do_print_thread_stack(
        &self,
        ask: v1::PrintThreadStackRequest,
    ) -> Result<v1::PrintThreadStackResponse, AdminError> {
        let (client, patience) = (client_id(&ask.client)?, Patience::new(ask.wait_ms));
        match self.clients.asker(&*self.routes, &client, ask.local_only).await? {
            Asker::Here(here) => {
                let said = here.ask(&client, Question::Stack, patience.left()).await?;
                if said.code != i32::from(v2::Code::Ok) {
                    return Err(AdminError::ClientRefuses {
                        id: client,
                        code: code_name(said.code),
                        words: said.words,
                    });
                }
                Ok(v1::PrintThreadStackResponse { proxy: here.name.to_string(), stack: said.stack })
            }
            Asker::Other(proxy) => {
                let ask = v1::PrintThreadStackRequest { wait_ms: patience.left_ms(), local_only: true, ..ask };
                let pass_on = async |mut peer: Peer| peer.print_thread_stack(ask).await;
                self.clients.pass_on(proxy, &client, patience, pass_on).await
            }
        }
    }

    pub(super) async fn do_verify_message(
        &self,
        ask: v1::VerifyMessageRequest,
    ) -> Result<v1::VerifyMessageResponse, AdminError> {
        let (client, patience) = (client_id(&ask.client)?, Patience::new(ask.wait_ms));
        let cluster = self.routes.cluster();
        let topic = known_topic(&cluster, Topic::parse(&ask.namespace, &ask.topic)?)?;
        let group = known_group(&cluster, ConsumerGroup::parse(&ask.namespace, &ask.group)?)?;
        let by = match ask.by.clone().ok_or(AdminError::Missing { field: "which message" })? {
            verify_message_request::By::MessageId(id) => By::MessageId(id),
            verify_message_request::By::Place(place) => By::Place(place),
        };
        let asker = self.clients.asker(&*self.routes, &client, ask.local_only).await?;
        if let Asker::Here(here) = &asker {
            here.is_consumer(&client, &group.group)?;
        }
        let (queue, found) = self.find(&topic, by).await?;
        match asker {
            Asker::Here(here) => here.verify(&client, &topic, (queue, found), patience).await,
            Asker::Other(proxy) => {
                let place = v1::QueueOffset { queue_id: Some(queue.0.into()), offset: found.offset.0 };
                let by = Some(verify_message_request::By::Place(place));
                let ask = v1::VerifyMessageRequest { by, wait_ms: patience.left_ms(), local_only: true, ..ask };
                let pass_on = async |mut peer: Peer| peer.verify_message(ask).await;
                self.clients.pass_on(proxy, &client, patience, pass_on).await
            }
        }
    }
}

impl Here {
    async fn ask(&self, id: &ClientId, question: Question, wait: Duration) -> Result<Said, AdminError> {
        let said = self.streams.ask(id, question, wait).await;
        said.map_err(|why| match why {
            Unanswered::NoStream => AdminError::NoStream { id: id.clone() },
            Unanswered::Busy => AdminError::TooManyQuestions,
            Unanswered::Late { waited } => AdminError::NoAnswer { id: id.clone(), waited },
            Unanswered::HungUp => AdminError::HungUp { id: id.clone() },
        })
    }

    fn is_consumer(&self, id: &ClientId, group: &ConsumerGroup) -> Result<(), AdminError> {
        let role = self.sessions.find(id).and_then(|known| known.role);
        match role {
            Some(Role::Consumer { group: of, .. }) if of == *group => Ok(()),
            Some(Role::Consumer { .. } | Role::Producer) | None => {
                Err(AdminError::NotOfGroup { id: id.clone(), group: group.clone() })
            }
        }
    }

    async fn verify(
        &self,
        id: &ClientId,
        topic: &TopicConfig,
        (queue, found): (QueueId, FetchedMessage),
        patience: Patience,
    ) -> Result<v1::VerifyMessageResponse, AdminError> {
        let offset = found.offset.0;
        let message_id = shown(topic, queue, found.clone())?.message_id; // and so it can be read
        let candidate = Candidate { topic: topic.topic.clone(), queue, found };
        let said = self.ask(id, Question::Verify(Arc::new(candidate)), patience.left()).await?;
        Ok(v1::VerifyMessageResponse {
            proxy: self.name.to_string(),
            outcome: outcome(said.code).into(),
            code: code_name(said.code),
            remark: said.words,
            message_id,
            queue_id: queue.0.into(),
            offset,
        })
    }
}

/// Source: apache/rocketmq-clients, what the SDKs answer.
fn outcome(code: i32) -> v1::VerifyOutcome {
    match v2::Code::try_from(code) {
        Ok(v2::Code::Ok) => v1::VerifyOutcome::Consumed,
        Ok(v2::Code::FailedToConsumeMessage) => v1::VerifyOutcome::Failed,
        Ok(v2::Code::MessageCorrupted) => v1::VerifyOutcome::Corrupted,
        Ok(
            v2::Code::NotImplemented
            | v2::Code::Unsupported
            | v2::Code::VersionUnsupported
            | v2::Code::VerifyFifoMessageUnsupported,
        ) => v1::VerifyOutcome::Unsupported,
        Ok(_) | Err(_) => v1::VerifyOutcome::Unspecified,
    }
}

fn code_name(code: i32) -> String {
    v2::Code::try_from(code).map_or_else(|_| format!("code {code}"), |code| code.as_str_name().to_owned())
}

impl Clients {
    /// Who has a stream of the client; the proxy beside this API, if it has one.
    async fn asker(&self, routes: &dyn Routes, id: &ClientId, local_only: bool) -> Result<Asker<'_>, AdminError> {
        let here = self.here.as_ref();
        if let Some(here) = here.filter(|here| here.streams.of(id) > 0) {
            return Ok(Asker::Here(here));
        }
        let mut known = here.is_some_and(|here| here.sessions.find(id).is_some());
        let mut all = Found::default();
        if !local_only {
            let others = self.others(routes).await.unwrap_or_else(|why| {
                all.add(Found::nothing_of(String::new(), why));
                Vec::new()
            });
            let ask = Ask::One(v1::DescribeClientRequest { id: id.to_string(), local_only: true });
            let asked = stream::iter(others).map(async |proxy| (proxy.clone(), self.ask_one(proxy, &ask).await));
            let mut asked = std::pin::pin!(asked.buffer_unordered(AT_ONCE));
            while let Some((proxy, found)) = asked.next().await {
                if found.clients.iter().any(|client| client.streams > 0) {
                    return Ok(Asker::Other(proxy));
                }
                known |= !found.clients.is_empty();
                all.add(found);
            }
        }
        let (id, others) = (id.clone(), all.missing.len());
        Err(match all.missing.into_iter().next() {
            Some(v1::MissingProxy { proxy, why }) => AdminError::ClientNotFound { id, proxy, others: others - 1, why },
            None if known => AdminError::NoStream { id },
            None => AdminError::NoSuchClient { id },
        })
    }

    /// Lets another proxy ask.
    async fn pass_on<T>(
        &self,
        proxy: ProxyNode,
        id: &ClientId,
        patience: Patience,
        call: impl AsyncFnOnce(Peer) -> Result<Response<T>, Status>,
    ) -> Result<T, AdminError> {
        let ProxyNode { name, admin, .. } = proxy;
        let nothing = |why: String| AdminError::ClientNotFound {
            id: id.clone(),
            proxy: name.to_string(),
            others: 0,
            why: format!("{admin}: {why}"),
        };
        let peer = self.peer(&admin).ok_or_else(|| nothing("is not host:port".to_owned()))?;
        match timeout(patience.left() + ROAD, call(peer)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(AdminError::Passed(Box::new(status))),
            Err(_) => Err(nothing(format!("did not answer within {:?}", patience.wait + ROAD))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let wait = |wait_ms| Patience::new(wait_ms).left();
        assert_eq!((wait(0), wait(100), wait(60_000)), (WAIT, Duration::from_millis(100), WAIT_MAX));
        let patience = Patience::new(0);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(patience.left(), Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!((patience.left(), patience.left_ms()), (Duration::ZERO, 1));
    }

    #[test]
    fn answers_of_sdks_mean_something() {
        use v1::VerifyOutcome::{Consumed, Corrupted, Failed, Unspecified, Unsupported};
        let meant = [20_000, 60_000, 50_100, 50_500, 50_502, 40_016, 50_001, 7].map(outcome);
        let expected = [Consumed, Failed, Unsupported, Unsupported, Unsupported, Corrupted, Unspecified, Unspecified];
        assert_eq!(meant, expected);
        assert_eq!((code_name(20_000), code_name(7)), ("OK".to_owned(), "code 7".to_owned()));
    }
}
