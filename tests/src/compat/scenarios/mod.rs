//! What is asked: one file for each area, each scenario a function that leaves steps.
//!
//! A scenario takes the same steps whatever is answered, so that transcripts can be compared line by line.

mod ack;
mod bad_send;
mod dead_letters;
mod delay;
mod fifo;
mod filter;
mod invisible;
mod lite;
mod priority;
mod pull;
mod receive;
mod route;
mod send;
mod settings;
mod transaction;

use futures::future::BoxFuture;

use super::script::Script;

/// One of them.
pub struct Scenario {
    /// Also the name of its record.
    pub name: &'static str,
    pub run: for<'a> fn(&'a mut Script) -> BoxFuture<'a, anyhow::Result<()>>,
}

/// A list of scenarios from functions of the same names.
macro_rules! scenarios {
    ($($area:ident: $($name:ident)*;)*) => {
        vec![$($(Scenario {
            name: stringify!($name),
            run: |script| Box::pin($area::$name(script)),
        },)*)*]
    };
}

/// All of them, in the order of the documentation.
pub fn all() -> Vec<Scenario> {
    scenarios! {
        route: route_of_topics route_refused assignments;
        settings: settings_of_producer settings_of_consumers settings_refused heartbeats terminations client_id_required;
        send: send_one send_and_receive_all_fields send_types send_batch;
        bad_send: send_names_refused send_content_refused send_properties_refused send_limits;
        receive: receive_stream receive_batches receive_long_poll receive_refused receive_two_groups receive_new_group
            receive_attempt_id;
        ack: ack_settles ack_again ack_refused ack_late ack_foreign;
        invisible: nack_comes_again invisible_ends change_extends change_old_handle change_refused;
        filter: filter_tags filter_sql filter_sql_types filter_refused;
        delay: delay_delivers delay_limits recall recall_refused;
        transaction: transaction_ends transaction_refused;
        fifo: fifo_in_order fifo_failed_comes_first fifo_attempt_id fifo_parallel_groups fifo_simple_batch;
        dead_letters: dead_letter_forwarded dead_letter_by_attempts dead_letter_refused;
        pull: pull_and_offsets;
        priority: priority_order priority_failed priority_refused;
        lite: lite_subscribed lite_failed_comes_first lite_exclusive lite_begins lite_send_refused lite_clients_refused
            lite_subscriptions_refused;
    }
}
