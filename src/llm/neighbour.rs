//! Whether a result of a batch is another task's. Models that write several texts at once sometimes swap them.
//!
//! A task is known by its names: the words of its own part of the request that no other task of the batch has, and those of its
//! paths, whoever else speaks of it.
//! A result that holds clearly more of another task's names than of its own is taken for that one's. Clearly: a result that says
//! little, or what all tasks have in common, is nobody else's. To be wrong costs one request.

use std::collections::{HashMap, HashSet};

use super::request::Ask;

/// The names of a batch's tasks.
#[derive(Debug)]
pub(super) struct Names {
    /// For each name the task that has it.
    owners: HashMap<String, usize>,
    /// How many each task has.
    counts: Vec<usize>,
}

/// The least part of another task's names that makes a result its own, of 100.
const LEAST_SHARE: usize = 20;

/// How many times more of another's names than of its own a result holds, by share.
const TIMES: usize = 3;

impl Names {
    pub fn new(asks: &[&Ask]) -> Names {
        let paths = |ask: &Ask| ask.outputs.iter().flat_map(|output| names(output.path.as_str())).collect();
        let mut owners = owned(asks.iter().map(|ask| names(ask.user()).collect()));
        owners.extend(owned(asks.iter().map(|ask| paths(ask))));
        let owners: HashMap<String, usize> =
            owners.into_iter().filter_map(|(word, owner)| Some((word, owner?))).collect();
        let mut counts = vec![0; asks.len()];
        owners.values().for_each(|owner| counts[*owner] += 1);
        Names { owners, counts }
    }

    /// The task that the result of task `own` is nearer to, if there is one.
    pub fn stray(&self, own: usize, texts: &[String]) -> Option<usize> {
        let words: HashSet<String> = texts.iter().flat_map(|text| names(text)).collect();
        let mut found = vec![0; self.counts.len()];
        words.iter().filter_map(|word| self.owners.get(word)).for_each(|owner| found[*owner] += 1);
        if self.counts[own] == 0 {
            return None;
        }
        // As fractions of the same denominator, without rounding.
        let share = |task: usize, of: usize| found[task] * self.counts[of];
        let is_nearer = |task: &usize| {
            let (found, count) = (found[*task], self.counts[*task]);
            *task != own
                && (found >= 2 || found == count)
                && found * 100 >= count * LEAST_SHARE
                && share(*task, own) > TIMES * share(own, *task)
        };
        let by_share = |a: &usize, b: &usize| share(*a, *b).cmp(&share(*b, *a)).then(b.cmp(a));
        (0..found.len()).filter(is_nearer).max_by(by_share)
    }
}

/// For each word the one task that has it; none if several do.
fn owned(words: impl Iterator<Item = HashSet<String>>) -> HashMap<String, Option<usize>> {
    let mut owners = HashMap::new();
    for (task, words) in words.enumerate() {
        for word in words {
            owners.entry(word).and_modify(|owner| *owner = None).or_insert(Some(task));
        }
    }
    owners
}

/// The words of a text that may be names: in lower case, without what joins their parts, without a plural's `s`. What is short
/// and has no digit may be a word of any language, and what is only digits a number.
fn names(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
    words.filter_map(|word| {
        let mut word: String = word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        let (is_long, has_digit) = (word.chars().count() >= 4, word.chars().any(|c| c.is_ascii_digit()));
        if !word.chars().any(char::is_alphabetic) || !(is_long || has_digit) {
            return None;
        }
        if is_long && word.ends_with('s') {
            word.pop();
        }
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::ask;
    use super::*;

    /// The task that each result is taken for, where that is another than its own.
    fn strays(tasks: &[(&str, &str)], results: &[&str]) -> Vec<Option<usize>> {
        let asks: Vec<Ask> = tasks.iter().map(|(path, user)| ask(path, user)).collect();
        let names = Names::new(&asks.iter().collect::<Vec<_>>());
        results.iter().enumerate().map(|(own, text)| names.stray(own, &[(*text).to_owned()])).collect()
    }

    const SHOP: [(&str, &str); 3] = [
        ("docs/customer.md", "Write about Customer: has an email_address and a loyalty card."),
        ("docs/order.md", "Write about Order: has a total, a voucher, and is placed by a Customer."),
        ("docs/product.md", "Write about Product: has a price, a warehouse shelf and a barcode."),
    ];

    #[test]
    fn swapped_results_are_caught() {
        let customer = "# Customer\n\nEach has an emailAddress, and collects points on a loyalty card.\n";
        let order = "# Order\n\nPlaced by a customer; a voucher lowers its total.\n";
        let product = "# Product\n\nStands on a shelf in the warehouse; the barcode finds its price.\n";
        assert_eq!(strays(&SHOP, &[customer, order, product]), [None; 3]);
        assert_eq!(strays(&SHOP, &[customer, product, order]), [None, Some(2), Some(1)]);
        // Where a batch has slipped by one, and where one text stands everywhere.
        assert_eq!(strays(&SHOP, &[order, product, customer]), [Some(1), Some(2), Some(0)]);
        assert_eq!(strays(&SHOP, &[order, order, order]), [Some(1), None, Some(1)]);
        let pages = [("e1.md", "Write about e1: news"), ("e2.md", "Write about e2: news")];
        assert_eq!(strays(&pages, &["# e2\n\nnews\n", "# e2\n\nnews\n"]), [Some(1), None]);
    }

    #[test]
    fn what_says_little_is_nobody_elses() {
        assert_eq!(strays(&SHOP, &["ok\n", "true", "TODO: write this page.\n"]), [None; 3]);
        let langs = [("de/a.md", "To de: Hello"), ("fr/a.md", "To fr: Hello")];
        assert_eq!(strays(&langs, &["Hallo", "Les mots de la page"]), [None; 2]);
        let numbers = [("1.md", "Write 1"), ("2.md", "Write 2")];
        assert_eq!(strays(&numbers, &["2 things: 2, 22", "1"]), [None; 2]);
        let labels = [("a.json", "\"Lovely kettle, boils quickly\""), ("b.json", "\"The lamp broke, bad quality\"")];
        assert_eq!(strays(&labels, &["{\"mood\": \"good\"}", "{\"mood\": \"bad\"}"]), [None; 2]);
    }

    #[test]
    fn shared_names_and_mentions_do_not_count() {
        // Both speak of both: what they have in common says nothing.
        let both = [
            ("user.go", "type User has Posts; Post has title"),
            ("post.go", "type Post has a User; User has a name; title"),
        ];
        assert_eq!(
            strays(&both, &["type User struct { Posts []Post }", "type Post struct { Author User }"]),
            [None; 2]
        );
        // A page that mentions others, even often, and still speaks of its own.
        let mentions = "A Product, unlike an Order with its total and voucher, has a price and a shelf. ";
        assert_eq!(strays(&SHOP, &["Customer: see Order, voucher, total", "Order", mentions]), [None; 3]);
        // The same text for all tasks, told apart by nothing.
        assert_eq!(strays(&[("a", "Write"), ("b", "Write")], &["Write b", "Write a"]), [None; 2]);
    }

    #[test]
    fn a_word_of_many_is_chance() {
        let long: String = (0..40).map(|i| format!("word{i} ")).collect();
        let tasks = [("a.md", "alpha beta"), ("b.md", long.as_str())];
        assert_eq!(strays(&tasks, &["word1 and word2 by chance", "x"]), [None; 2]);
    }
}
