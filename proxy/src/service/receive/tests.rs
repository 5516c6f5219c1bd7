use apogee_model::{ClientId, Timestamp};

use super::*;
use crate::service::Language;

/// Seconds after arrival at which the poll ends, or the problem.
fn check(version: &str, deadline: Option<f64>, asked: Option<f64>) -> Result<f64, (Duration, bool)> {
    let started = Instant::now();
    let call = Call {
        client: ClientId::parse("c").unwrap(),
        language: Language::Java,
        version: version.into(),
        namespace: "".into(),
        request_id: "".into(),
        peer: None,
        connection: None,
        departure: crate::listen::Departure::default(),
        received: Timestamp(0),
        started,
        deadline: deadline.map(|secs| started + Duration::from_secs_f64(secs)),
    };
    match until(&call, asked.map(Duration::from_secs_f64), None) {
        Ok(until) => {
            assert!(until.poll_ends <= until.answer);
            if let Some(deadline) = call.deadline {
                assert!(until.answer + Duration::from_millis(100) <= deadline);
            }
            Ok((until.poll_ends - started).as_secs_f64())
        }
        Err(ServiceError::PollingTime { remaining, client_knows_the_code, .. }) => {
            Err((remaining, client_knows_the_code))
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_a_poll_lasts() {
    assert_eq!(check("5.0.7", None, None), Ok(20.0));
    assert_eq!(check("5.0.7", None, Some(1.0)), Ok(5.0));
    assert_eq!(check("5.0.7", None, Some(40.0)), Ok(20.0));
    assert_eq!(check("5.0.7", Some(23.0), Some(20.0)), Ok(20.0));
    assert_eq!(check("5.0.7", Some(33.0), Some(30.0)), Ok(20.0));
    assert_eq!(check("5.0.7", Some(10.0), None), Ok(8.5)); // half a request timeout is kept for the road
    assert_eq!(check("5.0.7", Some(8.0), Some(20.0)), Ok(7.9)); // an answer 100 ms before the client gives up
    assert_eq!(check("5.0.7", Some(40.0), Some(40.0)), Ok(20.0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_too_near_is_refused_in_words_the_client_knows() {
    let four = Duration::from_secs(4);
    assert_eq!(check("5.0.3", Some(4.0), Some(1.0)), Err((four, true)));
    assert_eq!(check("5.0.2", Some(4.0), Some(1.0)), Err((four, false)));
    assert_eq!(check("", Some(4.0), None), Err((four, false)));
}

#[tokio::test(start_paused = true)]
async fn polls_end_together_and_never_late() {
    let since = Instant::now();
    let ends = |millis| {
        let poll_ends = since + Duration::from_millis(millis);
        let until = Until { poll_ends, answer: poll_ends }.with_others(since);
        assert_eq!(until.answer, poll_ends);
        (until.poll_ends - since).as_millis()
    };
    assert_eq!([5_000, 5_001, 5_099, 5_100, 20_250].map(ends), [5_000, 5_000, 5_000, 5_100, 20_200]);
}
