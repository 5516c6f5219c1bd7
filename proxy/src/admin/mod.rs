//! The admin API of port 8088: the cluster, topics, consumer groups and clients, for the CLI, the console and the operator.
//!
//! Every call carries the cluster token; the check stands before the service, so a new RPC cannot forget it.
//! Reading order: this table of contents, `cluster`, `clients`, `subscriptions`, `relay` (questions to clients), `offsets`
//! (resets), `dead_letters`, `find`, `search` and `tail` (messages), `transactions`, `lite`, `convert`,
//! `stored`, `page`, `error`; `grow` (topics that wait for more queues).

mod clients;
mod cluster;
mod convert;
mod dead_letters;
mod error;
mod find;
mod grow;
mod lite;
mod offsets;
mod page;
mod relay;
mod retry;
mod search;
mod stored;
mod subscriptions;
mod tail;
mod transactions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use apogee_model::{Cluster, ConsumerGroup, GroupConfig, Topic, TopicConfig};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::admin_server::AdminServer;
use apogee_proto::token::{ClusterToken, TokenCheck};
use futures::future::try_join_all;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

pub(crate) use self::clients::{Clients, Here};
pub use self::error::AdminError;
pub(crate) use self::grow::watch as watch_growth;
pub(crate) use self::subscriptions::watch as watch_subscriptions;
use crate::{Routes, Stores};

type Reply<T> = Result<Response<T>, Status>;

/// The admin API as a tower service for a listener; answers UNAUTHENTICATED to every call without `token`.
pub type Service = InterceptedService<AdminServer<Admin>, TokenCheck>;

/// What the admin API is made of.
pub struct AdminParts {
    pub cluster_name: String,
    pub routes: Arc<dyn Routes>,
    pub stores: Stores,
    /// Asked for with every call, if there is one.
    pub token: Option<ClusterToken>,
    /// Ends answers that have no end of their own.
    pub stop: CancellationToken,
}

/// Serves the admin API to whoever knows the token; to everybody without one. No proxy is beside it; with one, see
/// [`Proxy::admin`](crate::Proxy::admin).
pub fn service(parts: AdminParts) -> Service {
    service_beside(Clients { here: None, token: parts.token.clone() }, parts)
}

pub(crate) fn service_beside(clients: Clients, parts: AdminParts) -> Service {
    let AdminParts { cluster_name, routes, stores, token, stop } = parts;
    let admin = Admin { cluster_name, routes, stores, clients, stop };
    InterceptedService::new(AdminServer::new(admin), TokenCheck::new(token, "admin token"))
}

/// The decisions behind the admin API. Clones share it.
#[derive(Clone)]
pub struct Admin {
    cluster_name: String,
    routes: Arc<dyn Routes>,
    stores: Stores,
    clients: Clients,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl v1::admin_server::Admin for Admin {
    async fn create_topic(&self, request: Request<v1::CreateTopicRequest>) -> Reply<v1::CreateTopicResponse> {
        answer(self.do_create_topic(request.into_inner()).await)
    }

    async fn describe_topic(&self, request: Request<v1::DescribeTopicRequest>) -> Reply<v1::DescribeTopicResponse> {
        answer(self.do_describe_topic(request.into_inner()).await)
    }

    async fn list_topics(&self, request: Request<v1::ListTopicsRequest>) -> Reply<v1::ListTopicsResponse> {
        answer(self.do_list_topics(&request.into_inner()))
    }

    async fn alter_topic(&self, request: Request<v1::AlterTopicRequest>) -> Reply<v1::AlterTopicResponse> {
        answer(self.do_alter_topic(request.into_inner()).await)
    }

    async fn delete_topic(&self, request: Request<v1::DeleteTopicRequest>) -> Reply<v1::DeleteTopicResponse> {
        answer(self.do_delete_topic(request.into_inner()).await)
    }

    async fn create_group(&self, request: Request<v1::CreateGroupRequest>) -> Reply<v1::CreateGroupResponse> {
        answer(self.do_create_group(request.into_inner()).await)
    }

    async fn describe_group(&self, request: Request<v1::DescribeGroupRequest>) -> Reply<v1::DescribeGroupResponse> {
        answer(self.do_describe_group(request.into_inner()).await)
    }

    async fn list_groups(&self, request: Request<v1::ListGroupsRequest>) -> Reply<v1::ListGroupsResponse> {
        answer(self.do_list_groups(&request.into_inner()))
    }

    async fn alter_group(&self, request: Request<v1::AlterGroupRequest>) -> Reply<v1::AlterGroupResponse> {
        answer(self.do_alter_group(request.into_inner()).await)
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Reply<v1::ListDeadLettersResponse> {
        answer(self.do_list_dead_letters(request.into_inner()).await)
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<v1::RedriveDeadLettersRequest>,
    ) -> Reply<v1::RedriveDeadLettersResponse> {
        answer(self.do_redrive_dead_letters(request.into_inner()).await)
    }

    async fn delete_group(&self, request: Request<v1::DeleteGroupRequest>) -> Reply<v1::DeleteGroupResponse> {
        answer(self.do_delete_group(request.into_inner()).await)
    }

    async fn list_clients(&self, request: Request<v1::ListClientsRequest>) -> Reply<v1::ListClientsResponse> {
        answer(self.clients.list(&*self.routes, request.into_inner()).await)
    }

    async fn describe_client(&self, request: Request<v1::DescribeClientRequest>) -> Reply<v1::DescribeClientResponse> {
        answer(self.clients.describe(&*self.routes, request.into_inner()).await)
    }

    async fn describe_topic_route(
        &self,
        request: Request<v1::DescribeTopicRouteRequest>,
    ) -> Reply<v1::DescribeTopicRouteResponse> {
        answer(self.do_describe_topic_route(&request.into_inner()))
    }

    async fn describe_cluster(&self, _: Request<v1::DescribeClusterRequest>) -> Reply<v1::DescribeClusterResponse> {
        answer(Ok(self.do_describe_cluster().await))
    }

    async fn drain_node(&self, request: Request<v1::DrainNodeRequest>) -> Reply<v1::DrainNodeResponse> {
        answer(self.do_drain_node(request.into_inner()).await)
    }

    async fn undrain_node(&self, request: Request<v1::UndrainNodeRequest>) -> Reply<v1::UndrainNodeResponse> {
        answer(self.do_undrain_node(request.into_inner()).await)
    }

    async fn remove_node(&self, request: Request<v1::RemoveNodeRequest>) -> Reply<v1::RemoveNodeResponse> {
        answer(self.do_remove_node(request.into_inner()).await)
    }

    async fn reset_offset(&self, request: Request<v1::ResetOffsetRequest>) -> Reply<v1::ResetOffsetResponse> {
        answer(self.do_reset_offset(request.into_inner()).await)
    }

    async fn get_message(&self, request: Request<v1::GetMessageRequest>) -> Reply<v1::GetMessageResponse> {
        answer(self.do_get_message(request.into_inner()).await)
    }

    type TailMessagesStream = tail::Parts;

    async fn tail_messages(&self, request: Request<v1::TailMessagesRequest>) -> Reply<tail::Parts> {
        answer(self.do_tail_messages(request.into_inner()).await)
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Reply<v1::ListTransactionsResponse> {
        answer(self.do_list_transactions(request.into_inner()).await)
    }

    async fn end_transaction(&self, request: Request<v1::EndTransactionRequest>) -> Reply<v1::EndTransactionResponse> {
        answer(self.do_end_transaction(request.into_inner()).await)
    }

    async fn list_subscriptions(
        &self,
        request: Request<v1::ListSubscriptionsRequest>,
    ) -> Reply<v1::ListSubscriptionsResponse> {
        answer(self.clients.subscriptions(&*self.routes, request.into_inner()).await)
    }

    async fn print_thread_stack(
        &self,
        request: Request<v1::PrintThreadStackRequest>,
    ) -> Reply<v1::PrintThreadStackResponse> {
        answer(self.do_print_thread_stack(request.into_inner()).await)
    }

    async fn verify_message(&self, request: Request<v1::VerifyMessageRequest>) -> Reply<v1::VerifyMessageResponse> {
        answer(self.do_verify_message(request.into_inner()).await)
    }

    async fn find_messages(&self, request: Request<v1::FindMessagesRequest>) -> Reply<v1::FindMessagesResponse> {
        answer(self.do_find_messages(request.into_inner()).await)
    }

    async fn trace_message(&self, request: Request<v1::TraceMessageRequest>) -> Reply<v1::TraceMessageResponse> {
        answer(self.do_trace_message(request.into_inner()).await)
    }

    async fn list_lite_topics(&self, request: Request<v1::ListLiteTopicsRequest>) -> Reply<v1::ListLiteTopicsResponse> {
        answer(self.do_list_lite_topics(request.into_inner()).await)
    }

    async fn describe_lite_topic(
        &self,
        request: Request<v1::DescribeLiteTopicRequest>,
    ) -> Reply<v1::DescribeLiteTopicResponse> {
        answer(self.do_describe_lite_topic(request.into_inner()).await)
    }
}

impl Admin {
    async fn do_create_topic(&self, ask: v1::CreateTopicRequest) -> Result<v1::CreateTopicResponse, AdminError> {
        let topic = self.routes.create_topic(convert::new_topic(&ask)?).await?;
        tracing::info!(event = "topic_created", topic = %topic.topic, queues = topic.queues, "topic created");
        Ok(v1::CreateTopicResponse { topic: Some(convert::topic(&topic)) })
    }

    async fn do_describe_topic(&self, ask: v1::DescribeTopicRequest) -> Result<v1::DescribeTopicResponse, AdminError> {
        let topic = known_topic(&self.routes.cluster(), Topic::parse(&ask.namespace, &ask.name)?)?;
        let stores = self.stores.of_topic(&topic)?;
        let statuses = try_join_all(stores.iter().map(|store| store.topic_status(topic.id))).await?.concat();
        Ok(v1::DescribeTopicResponse {
            topic: Some(convert::topic(&topic)),
            queues: convert::queues(&topic, &statuses),
        })
    }

    fn do_list_topics(&self, ask: &v1::ListTopicsRequest) -> Result<v1::ListTopicsResponse, AdminError> {
        let cluster = self.routes.cluster();
        let page = page::of(&cluster.topics, ask.page_size, &ask.page_token)?;
        Ok(v1::ListTopicsResponse {
            topics: page.items.into_iter().map(convert::topic).collect(),
            next_page_token: page.next,
        })
    }

    async fn do_alter_topic(&self, ask: v1::AlterTopicRequest) -> Result<v1::AlterTopicResponse, AdminError> {
        let topic = self.routes.alter_topic(convert::topic_changes(&ask)?).await?;
        let topic = grow::at_once(topic, &*self.routes, &self.stores).await;
        let (name, queues, permission) = (&topic.topic, topic.queues, topic.permission);
        tracing::info!(event = "topic_altered", topic = %name, queues, ?permission, "topic altered");
        Ok(v1::AlterTopicResponse { topic: Some(convert::topic(&topic)) })
    }

    /// The topic is gone with the answer of namesrv; the store then forgets its queues.
    async fn do_delete_topic(&self, ask: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse, AdminError> {
        let topic = self.routes.delete_topic(&Topic::parse(&ask.namespace, &ask.name)?).await?;
        tracing::info!(event = "topic_deleted", topic = %topic.topic, "topic deleted");
        let stores = self.stores.all();
        let forgotten = try_join_all(stores.iter().map(|store| store.drop_topic(topic.id))).await;
        forgotten.map_err(|cause| AdminError::NotFreed { deleted: format!("topic {}", topic.topic), cause })?;
        Ok(v1::DeleteTopicResponse {})
    }

    async fn do_create_group(&self, ask: v1::CreateGroupRequest) -> Result<v1::CreateGroupResponse, AdminError> {
        let group = self.routes.create_group(convert::new_group(&ask)?).await?;
        tracing::info!(event = "group_created", group = %group.group, "consumer group created");
        Ok(v1::CreateGroupResponse { group: Some(convert::group(&group)) })
    }

    async fn do_describe_group(&self, ask: v1::DescribeGroupRequest) -> Result<v1::DescribeGroupResponse, AdminError> {
        let cluster = self.routes.cluster();
        let group = known_group(&cluster, ConsumerGroup::parse(&ask.namespace, &ask.name)?)?;
        let stores = if ask.settings_only { Vec::new() } else { self.stores.all() };
        let progress = try_join_all(stores.iter().map(|store| store.group_status(group.id))).await?.concat();
        Ok(v1::DescribeGroupResponse {
            group: Some(convert::group(&group)),
            progress: convert::progress(&cluster, &progress),
        })
    }

    fn do_list_groups(&self, ask: &v1::ListGroupsRequest) -> Result<v1::ListGroupsResponse, AdminError> {
        let cluster = self.routes.cluster();
        let page = page::of(&cluster.groups, ask.page_size, &ask.page_token)?;
        Ok(v1::ListGroupsResponse {
            groups: page.items.into_iter().map(convert::group).collect(),
            next_page_token: page.next,
        })
    }

    async fn do_alter_group(&self, ask: v1::AlterGroupRequest) -> Result<v1::AlterGroupResponse, AdminError> {
        let group = self.routes.alter_group(convert::group_changes(ask)?).await?;
        let (name, max_attempts, retry) = (&group.group, group.max_attempts, &group.retry);
        let priority_factor = group.priority_factor.percent();
        tracing::info!(event = "group_altered", group = %name, max_attempts, ?retry, priority_factor, "consumer group altered");
        Ok(v1::AlterGroupResponse { group: Some(convert::group(&group)) })
    }

    /// The group is gone with the answer of namesrv; the store then forgets its progress and its dead letters.
    async fn do_delete_group(&self, ask: v1::DeleteGroupRequest) -> Result<v1::DeleteGroupResponse, AdminError> {
        let name = ConsumerGroup::parse(&ask.namespace, &ask.name)?;
        let dead_letters = self.routes.cluster().topics.get(&name.dead_letter_topic()).map(|topic| topic.id);
        let group = self.routes.delete_group(&name).await?;
        tracing::info!(event = "group_deleted", group = %group.group, "consumer group deleted");
        let stores = self.stores.all();
        let forgotten = try_join_all(stores.iter().map(|store| store.drop_group(group.id))).await;
        let not_freed = |cause| AdminError::NotFreed { deleted: format!("group {}", group.group), cause };
        forgotten.map_err(not_freed)?;
        if let Some(topic) = dead_letters {
            try_join_all(stores.iter().map(|store| store.drop_topic(topic))).await.map_err(not_freed)?;
        }
        Ok(v1::DeleteGroupResponse {})
    }
}

fn known_topic(cluster: &Cluster, topic: Topic) -> Result<Arc<TopicConfig>, AdminError> {
    cluster.topics.get(&topic).cloned().ok_or_else(|| AdminError::no_such_topic(topic))
}

fn known_group(cluster: &Cluster, group: ConsumerGroup) -> Result<Arc<GroupConfig>, AdminError> {
    cluster.groups.get(&group).cloned().ok_or_else(|| AdminError::no_such_group(group))
}

fn answer<T>(outcome: Result<T, AdminError>) -> Reply<T> {
    outcome.map(Response::new).map_err(Status::from)
}
