//! Lists page by page, in order of (namespace, name).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use apogee_model::{ConsumerGroup, NameError, Topic};

use super::error::AdminError;

/// Items per page, when nobody says otherwise and at most.
const PAGE_SIZE_MAX: u32 = 1000;

/// Some items in order, and where the next page begins: empty on the last one.
pub(super) struct Page<'a, Item> {
    pub(super) items: Vec<&'a Item>,
    pub(super) next: String,
}

/// A key of a list; `namespace/name` of the last item is the token of the next page, because no name has a `/`.
pub(super) trait Key: Ord + Sized {
    fn parse(namespace: &str, name: &str) -> Result<Self, NameError>;
    fn token(&self) -> String;
}

impl Key for Topic {
    fn parse(namespace: &str, name: &str) -> Result<Self, NameError> {
        Topic::parse(namespace, name)
    }

    fn token(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }
}

impl Key for ConsumerGroup {
    fn parse(namespace: &str, name: &str) -> Result<Self, NameError> {
        ConsumerGroup::parse(namespace, name)
    }

    fn token(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }
}

/// The page of at most `size` items (0: 1000) after `token` (empty: from the start).
pub(super) fn of<'a, K: Key, Item>(
    all: &'a BTreeMap<K, Arc<Item>>,
    size: u32,
    token: &str,
) -> Result<Page<'a, Item>, AdminError> {
    let size = self::size(size)?;
    let mut rest = all.range((after::<K>(token)?, Bound::Unbounded)).peekable();
    let mut page = Page { items: Vec::new(), next: String::new() };
    for _ in 0..size {
        let Some((key, item)) = rest.next() else { break };
        page.items.push(&**item);
        page.next = key.token();
    }
    if rest.peek().is_none() {
        page.next.clear();
    }
    Ok(page)
}

/// Items of a page: what was asked for, or 1000 for 0.
pub(super) fn size(asked: u32) -> Result<usize, AdminError> {
    let size = match asked {
        0 => PAGE_SIZE_MAX,
        1..=PAGE_SIZE_MAX => asked,
        _ => return Err(AdminError::PageSize { asked, max: PAGE_SIZE_MAX }),
    };
    Ok(usize::try_from(size).expect("at most 1000"))
}

fn after<K: Key>(token: &str) -> Result<Bound<K>, AdminError> {
    if token.is_empty() {
        return Ok(Bound::Unbounded);
    }
    let key = token.split_once('/').and_then(|(namespace, name)| K::parse(namespace, name).ok());
    key.map(Bound::Excluded).ok_or_else(|| AdminError::PageToken { token: token.chars().take(300).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(count: usize) -> BTreeMap<Topic, Arc<usize>> {
        (0..count).map(|n| (Topic::parse("", &format!("t{n:04}")).expect("a plain name"), Arc::new(n))).collect()
    }

    #[test]
    fn pages_cover_everything_once() {
        for (count, size) in [(0, 3), (1, 3), (3, 3), (7, 3), (2001, 0)] {
            let (all, mut seen, mut token) = (all(count), Vec::new(), String::new());
            loop {
                let page = of(&all, size, &token).expect("a fair question");
                seen.extend(page.items.into_iter().copied());
                token = page.next;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, (0..count).collect::<Vec<_>>(), "{count} by {size}");
        }
    }

    #[test]
    fn a_page_goes_on_although_its_last_item_was_deleted() {
        let mut all = all(4);
        let token = of(&all, 2, "").expect("a fair question").next;
        all.remove(&Topic::parse("", "t0001").expect("a plain name"));
        assert_eq!(of(&all, 2, &token).expect("a fair question").items, [&2, &3]);
    }

    #[test]
    fn refuses_large_pages_and_foreign_tokens() {
        assert!(matches!(of(&all(1), 1001, ""), Err(AdminError::PageSize { asked: 1001, max: 1000 })));
        for token in ["x", "a b/c", "/", "/a b"] {
            assert!(matches!(of(&all(1), 1, token), Err(AdminError::PageToken { .. })), "{token}");
        }
    }
}
