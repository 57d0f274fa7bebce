//! A filter: which messages does a consumer get?

quern_plugin::filter! {
    /// Large orders from one region.
    fn accept(
        region: text,
        amount: integer;
        /// the region
        from: text = "eu",
        /// the least amount
        min: integer = 100,
    ) -> bool {
        region == Some(from) && amount.is_some_and(|amount| amount >= min)
    }
}

#[cfg(test)]
mod tests {
    use super::accept;

    #[test]
    fn an_order_without_an_amount_is_not_large() {
        assert!(accept(Some("eu"), Some(100), "eu", 100));
        assert!(!accept(Some("eu"), None, "eu", 100));
    }
}
