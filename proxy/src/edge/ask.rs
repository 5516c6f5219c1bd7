//! Questions of operators to a client, and its answers, on the wire.
//!
//! Source: apache/rocketmq-clients, what each SDK answers; `proxy/.../GrpcClientChannel.java`.

use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, Code};

use super::answer::{int64, timestamp};
use super::stored;
use crate::session::{Asked, Candidate, Question, QuestionKind, Said};

/// Longest stack that is passed on, in bytes.
const STACK_MAX: usize = 1024 * 1024;

/// A question as a command. `None` for a message that is damaged: whoever asks has looked at it, and hears nothing.
pub(super) fn command(asked: Asked) -> Option<Command> {
    let Asked { nonce, question } = asked;
    Some(match question {
        Question::Stack => Command::PrintThreadStackTraceCommand(v2::PrintThreadStackTraceCommand { nonce }),
        Question::Verify(candidate) => {
            let message = message(&candidate).inspect_err(
                |error| tracing::error!(event = "stored_message_broken", topic = %candidate.topic, queue = %candidate.queue, %error),
            );
            Command::VerifyMessageCommand(v2::VerifyMessageCommand { nonce, message: Some(message.ok()?) })
        }
    })
}

/// As it is delivered, but nobody holds it: no receipt handle, the first attempt.
fn message(candidate: &Candidate) -> Result<v2::Message, prost::DecodeError> {
    let Candidate { queue, found, .. } = candidate;
    stored::message(found.message.clone(), |properties| v2::SystemProperties {
        store_timestamp: Some(timestamp(found.stored_at)),
        queue_id: i32::from(queue.0),
        queue_offset: Some(int64(found.offset.0)),
        delivery_attempt: Some(1),
        ..properties
    })
}

/// The answer in a command, and which question it is for. That of the Node.js SDK comes as the question itself.
pub(super) fn said(command: &v2::TelemetryCommand) -> Option<(&str, QuestionKind, Said)> {
    let status = command.status.clone().unwrap_or_else(|| v2::Status { code: Code::Ok.into(), message: String::new() });
    let said = |stack| Said { code: status.code, words: status.message, stack };
    match command.command.as_ref()? {
        Command::ThreadStackTrace(trace) => {
            Some((&trace.nonce, QuestionKind::Stack, said(cut(trace.thread_stack_trace()))))
        }
        Command::VerifyMessageResult(v2::VerifyMessageResult { nonce })
        | Command::VerifyMessageCommand(v2::VerifyMessageCommand { nonce, .. }) => {
            Some((nonce, QuestionKind::Verify, said(String::new())))
        }
        _ => None,
    }
}

fn cut(stack: &str) -> String {
    let mut end = stack.len().min(STACK_MAX);
    while !stack.is_char_boundary(end) {
        end -= 1;
    }
    stack[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_sdks() {
        let check = |command: Command, status: Option<Code>, expected: Option<(&str, QuestionKind, i32, &str)>| {
            let status = status.map(|code| v2::Status { code: code.into(), message: String::new() });
            let command = v2::TelemetryCommand { status, command: Some(command) };
            let found = said(&command).map(|(nonce, kind, said)| (nonce, kind, said.code, said.stack));
            let expected = expected.map(|(nonce, kind, code, stack)| (nonce, kind, code, stack.to_owned()));
            assert_eq!(found, expected);
        };
        let stack = |text: Option<&str>| {
            let thread_stack_trace = text.map(str::to_owned);
            Command::ThreadStackTrace(v2::ThreadStackTrace { nonce: "n".into(), thread_stack_trace })
        };
        check(stack(Some("main")), Some(Code::Ok), Some(("n", QuestionKind::Stack, 20_000, "main")));
        check(stack(Some("main")), None, Some(("n", QuestionKind::Stack, 20_000, "main")));
        check(stack(None), Some(Code::Unsupported), Some(("n", QuestionKind::Stack, 50_500, "")));
        let result = Command::VerifyMessageResult(v2::VerifyMessageResult { nonce: "n".into() });
        check(result, Some(Code::FailedToConsumeMessage), Some(("n", QuestionKind::Verify, 60_000, "")));
        let node = v2::VerifyMessageCommand { nonce: "n".into(), message: None };
        check(
            Command::VerifyMessageCommand(node),
            Some(Code::NotImplemented),
            Some(("n", QuestionKind::Verify, 50_100, "")),
        );
        check(Command::Settings(v2::Settings::default()), Some(Code::Ok), None);
    }

    #[test]
    fn a_stack_is_cut_between_characters() {
        assert_eq!(cut("ab"), "ab");
        let long = "é".repeat(STACK_MAX);
        assert_eq!(cut(&long).len(), STACK_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), STACK_MAX - 1);
    }
}
