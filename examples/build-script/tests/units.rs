#[test]
fn the_pages_are_up_to_date() {
    genmake::assert_fresh!();
}

#[test]
fn every_unit_is_known() {
    assert_eq!(units::metres("inch"), Some(0.0254));
    assert_eq!(units::metres("nmi"), Some(1852.0));
    assert_eq!(units::metres("ell"), None);
}
