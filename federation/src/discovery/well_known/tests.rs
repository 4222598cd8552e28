//! How long answers are believed. The network is a list of answers, the clock is moved.

use std::{collections::VecDeque, sync::Arc};

use http::HeaderValue;
use ruma::server_name;

use super::*;
use crate::{
    clock::Clock,
    testing::{Hands, ambient, hands},
};

struct Answers(Arc<Mutex<VecDeque<Told>>>);

impl Ask for Answers {
    fn ask<'a>(&'a self, _: &'a str, _: MilliSecondsSinceUnixEpoch) -> Asking<'a> {
        Box::pin(async { self.0.lock().pop_front().expect("asked once too often") })
    }
}

fn world(answers: Vec<Told>) -> (WellKnown, Arc<Hands>, Arc<Mutex<VecDeque<Told>>>) {
    let (hands, answers) = (hands(), Arc::new(Mutex::new(VecDeque::from(answers))));
    (WellKnown::new(Box::new(Answers(Arc::clone(&answers))), ambient(&hands)), hands, answers)
}

fn delegated(seconds: u64) -> Told {
    Told::Delegated(server_name!("b.example").to_owned(), Duration::from_secs(seconds))
}

fn headers(headers: &[(http::HeaderName, &str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
}

/// S2S 3 how long answers are kept.
#[test]
fn an_answer_is_believed_as_long_as_it_says_within_bounds() {
    let now = hands();
    let now = Clock::now(&*now);
    let cases = [
        (headers(&[]), WELL_KNOWN_KEPT_DEFAULT),
        (headers(&[(CACHE_CONTROL, "public, max-age=7200")]), Duration::from_secs(7200)),
        (headers(&[(CACHE_CONTROL, "MAX-AGE=1")]), WELL_KNOWN_KEPT_MIN),
        (headers(&[(CACHE_CONTROL, "no-store")]), WELL_KNOWN_KEPT_MIN),
        (headers(&[(CACHE_CONTROL, "max-age=99999999")]), WELL_KNOWN_KEPT_MAX),
        (headers(&[(CACHE_CONTROL, "max-age=soon")]), WELL_KNOWN_KEPT_DEFAULT),
        (headers(&[(EXPIRES, "Tue, 14 Nov 2023 23:13:20 GMT")]), Duration::from_secs(3600)),
        (headers(&[(EXPIRES, "0")]), WELL_KNOWN_KEPT_MIN),
        (headers(&[(EXPIRES, "Fri, 14 Nov 2003 23:13:20 GMT")]), WELL_KNOWN_KEPT_MIN),
    ];
    for (headers, kept) in cases {
        assert_eq!(kept_for(&headers, now), kept, "{headers:?}");
    }
}

/// S2S 3 how long answers are kept.
#[tokio::test]
async fn an_answer_is_asked_for_once_while_it_is_good() {
    let (well_known, hands, answers) = world(vec![delegated(3600), Told::Nothing]);
    for _ in 0..10 {
        assert_eq!(well_known.delegated("a.example").await.unwrap(), "b.example");
        hands.advance(Duration::from_secs(300));
    }
    hands.advance(Duration::from_secs(600));
    assert_eq!(well_known.delegated("a.example").await, None);
    assert!(answers.lock().is_empty());
}

#[tokio::test]
async fn many_at_once_ask_once() {
    let (well_known, _, _) = world(vec![delegated(3600)]);
    let (one, two, three) = tokio::join!(
        well_known.delegated("a.example"),
        well_known.delegated("a.example"),
        well_known.delegated("a.example")
    );
    assert!([one, two, three].iter().all(Option::is_some));
}

#[tokio::test]
async fn an_old_answer_is_used_on_while_no_new_one_can_be_got_but_not_for_ever() {
    let failures = vec![Told::Failed; 100];
    let (well_known, hands, _) = world([vec![delegated(3600)], failures].concat());
    for _ in 0..24 {
        assert!(well_known.delegated("a.example").await.is_some());
        hands.advance(Duration::from_secs(3600));
    }
    hands.advance(Duration::from_secs(2 * 3600));
    assert_eq!(well_known.delegated("a.example").await, None);
}

/// S2S 3 how long answers are kept.
#[tokio::test]
async fn failures_are_asked_about_less_and_less_often() {
    let (well_known, hands, answers) = world(vec![Told::Failed; 50]);
    for _ in 0..24 * 60 {
        assert_eq!(well_known.delegated("a.example").await, None);
        hands.advance(Duration::from_secs(60));
    }
    let asked = 50 - answers.lock().len();
    assert!((24..=40).contains(&asked), "{asked}");
}

#[tokio::test]
async fn memory_of_hosts_is_bounded() {
    let (well_known, _, _) = world(vec![Told::Nothing; SERVERS_IN_MEMORY_MAX + 10]);
    for number in 0..SERVERS_IN_MEMORY_MAX + 10 {
        well_known.delegated(&format!("{number}.example")).await;
    }
    assert_eq!(well_known.hosts.lock().len(), SERVERS_IN_MEMORY_MAX);
}
