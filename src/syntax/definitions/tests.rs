//! What is found in a text of each language, example by example.

use super::*;
use expect_test::{Expect, expect};
use std::fmt::Write;

#[track_caller]
fn found(ext: &str, text: &str, expected: Expect) {
    let mut all = String::new();
    for found in definitions(ext, text).unwrap() {
        let Definition { name, kind, signature, doc, range, line } = found;
        let source = &text[range];
        let (first, last) = (source.lines().next().unwrap(), source.lines().last().unwrap());
        let _ = writeln!(all, "{line} {} {name}: {signature}", kind.name());
        let _ = writeln!(all, "    {first:?} … {last:?}");
        let _ = if doc.is_empty() { Ok(()) } else { writeln!(all, "    doc {doc:?}") };
    }
    expected.assert_eq(&all);
}

#[test]
fn go() {
    found(
        "go",
        r#"// Package shop sells.
package shop

import "fmt"

const Max = 3 // most

// An Order is what somebody wants.
//
// It has lines.
type Order struct {
	ID    string
	Lines []Line // in order
}

type (
	// ID names.
	ID = string

	Store[T any] interface {
		Get(id ID) (T, error)
	}
)

// Total adds up.
func (o *Order) Total(tax float64) (sum float64) {
	add := func(x float64) { sum += x }
	add(1)
	return
}

// not about List

func (s *List[T]) Len() int { return 0 }

func New(
	id string, // its name
	lines ...Line,
) *Order {
	return &Order{}
}
"#,
        expect![[r#"
                11 struct Order: type Order struct
                    "// An Order is what somebody wants." … "}"
                    doc "An Order is what somebody wants.\n\nIt has lines."
                18 type ID: ID = string
                    "\t// ID names." … "\tID = string"
                    doc "ID names."
                20 interface Store: Store[T any] interface
                    "\tStore[T any] interface {" … "\t}"
                26 method Order.Total: func (o *Order) Total(tax float64) (sum float64)
                    "// Total adds up." … "}"
                    doc "Total adds up."
                34 method List.Len: func (s *List[T]) Len() int
                    "func (s *List[T]) Len() int { return 0 }" … "func (s *List[T]) Len() int { return 0 }"
                36 function New: func New( id string, lines ...Line, ) *Order
                    "func New(" … "}"
            "#]],
    );
}

#[test]
fn rust() {
    found(
        "rs",
        r#"//! A shop.

use std::fmt;

/// What somebody wants.
#[derive(Debug)]
pub struct Order<T> {
    pub lines: Vec<T>, // in order
}

pub struct Meters(pub f64);

/// Ways to pay.
///
/// Two.
enum Pay { Cash, Card }

impl<T> Order<T>
where
    T: Clone,
{
    /// Adds up.
    #[must_use]
    pub fn total(&self) -> u32 {
        fn inner() {}
        struct Hidden;
        1
    }

    fn len(&self) -> usize { 0 }
}

impl<T> fmt::Display for Order<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { Ok(()) }
}

impl fmt::Debug for &'static a::Other { fn fmt(&self) {} }

pub trait Shop {
    type Item;
    /// Sells.
    fn sell(&self, item: Self::Item);
}

type Result<T> = std::result::Result<T, ()>;

mod tests {
    // A plain comment.
    fn works() {}
}
"#,
        expect![[r#"
                7 struct Order: pub struct Order<T>
                    "/// What somebody wants." … "}"
                    doc "What somebody wants."
                11 struct Meters: pub struct Meters(pub f64)
                    "pub struct Meters(pub f64);" … "pub struct Meters(pub f64);"
                16 enum Pay: enum Pay
                    "/// Ways to pay." … "enum Pay { Cash, Card }"
                    doc "Ways to pay.\n\nTwo."
                24 method Order.total: pub fn total(&self) -> u32
                    "    /// Adds up." … "    }"
                    doc "Adds up."
                30 method Order.len: fn len(&self) -> usize
                    "    fn len(&self) -> usize { 0 }" … "    fn len(&self) -> usize { 0 }"
                34 method Order.fmt: fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result
                    "    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { Ok(()) }" … "    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { Ok(()) }"
                37 method Other.fmt: fn fmt(&self)
                    "fn fmt(&self) {}" … "fn fmt(&self) {}"
                39 trait Shop: pub trait Shop
                    "pub trait Shop {" … "}"
                42 method Shop.sell: fn sell(&self, item: Self::Item)
                    "    /// Sells." … "    fn sell(&self, item: Self::Item);"
                    doc "Sells."
                45 type Result: type Result<T> = std::result::Result<T, ()>
                    "type Result<T> = std::result::Result<T, ()>;" … "type Result<T> = std::result::Result<T, ()>;"
                49 function tests.works: fn works()
                    "    // A plain comment." … "    fn works() {}"
                    doc "A plain comment."
            "#]],
    );
}

#[test]
fn python() {
    found(
        "py",
        r#""""A shop."""
import os

# Adds up.
@cache
@other(1)
async def total(
    lines: list[int],
    tax: float = 0.1,
) -> float:  # noqa
    def inner():
        pass
    return sum(lines)


class Order(Base):  # of a shop
    """What somebody wants.

    It has lines:
        one
    """

    # about the id
    id: str = ""

    class Line:
        x = 1

    def __init__(self, id): self.id = id

    @property
    def name(self) -> str:
        # A comment first.
        'Its name.'
        return self.id

    @name.setter
    def name(self, name): ...

if True:
    def late(): pass
else:
    def late(): pass

type Pair[T] = tuple[T, T]
"#,
        expect![[r##"
                7 function total: async def total( lines: list[int], tax: float = 0.1, ) -> float:
                    "# Adds up." … "    return sum(lines)"
                    doc "Adds up."
                16 class Order: class Order(Base):
                    "class Order(Base):  # of a shop" … "    def name(self, name): ..."
                    doc "What somebody wants.\n\nIt has lines:\n    one"
                26 class Order.Line: class Line:
                    "    class Line:" … "        x = 1"
                29 method Order.__init__: def __init__(self, id):
                    "    def __init__(self, id): self.id = id" … "    def __init__(self, id): self.id = id"
                32 method Order.name: def name(self) -> str:
                    "    @property" … "        return self.id"
                    doc "Its name."
                38 method Order.name: def name(self, name):
                    "    @name.setter" … "    def name(self, name): ..."
                41 function late: def late():
                    "    def late(): pass" … "    def late(): pass"
                43 function late: def late():
                    "    def late(): pass" … "    def late(): pass"
                45 type Pair: type Pair[T] = tuple[T, T]
                    "type Pair[T] = tuple[T, T]" … "type Pair[T] = tuple[T, T]"
            "##]],
    );
}

#[test]
fn typescript() {
    found(
        "ts",
        r#"import { x } from "y";

/** What somebody wants. */
export interface Order { id: string; total(): number }

export type Id = string | number;
const enum Pay { Cash }

/**
 * Adds up.
 * @param a one
 */
export function add(a: string): string;
export function add(a: number): number;
export function add(a: any): any { return a; }

// An arrow.
export const later = async <T>(x: T): Promise<T> => {
  const inner = () => 1;
  return x;
};

const one = (): number => 1, two = function () { return 2; };
export const table = { f() {} };

@Injectable()
export class Store<T> extends Base<T> {
  private map = new Map<string, T>(); // all of it

  constructor(private readonly db: Db) { super(); }

  /** Finds one. */
  @Get(":id")
  async find(id: string): Promise<T> { return this.map.get(id)!; }

  handle = (e: Event): void => {};
  get size(): number { return 0; }
}

export abstract class Shape { abstract area(): number; }

namespace Geo { export function far(): void {} }
declare function outside(a: string): void;
export default class { run() {} }
"#,
        expect![[r#"
                4 interface Order: export interface Order
                    "/** What somebody wants. */" … "export interface Order { id: string; total(): number }"
                    doc "What somebody wants."
                6 type Id: export type Id = string | number
                    "export type Id = string | number;" … "export type Id = string | number;"
                7 enum Pay: const enum Pay
                    "const enum Pay { Cash }" … "const enum Pay { Cash }"
                13 function add: export function add(a: string): string
                    "/**" … "export function add(a: string): string;"
                    doc "Adds up.\n@param a one"
                14 function add: export function add(a: number): number
                    "export function add(a: number): number;" … "export function add(a: number): number;"
                15 function add: export function add(a: any): any
                    "export function add(a: any): any { return a; }" … "export function add(a: any): any { return a; }"
                18 function later: export const later = async <T>(x: T): Promise<T> =>
                    "// An arrow." … "};"
                    doc "An arrow."
                23 function one: one = (): number =>
                    "one = (): number => 1" … "one = (): number => 1"
                23 function two: two = function ()
                    "two = function () { return 2; }" … "two = function () { return 2; }"
                27 class Store: export class Store<T> extends Base<T>
                    "@Injectable()" … "}"
                30 method Store.constructor: constructor(private readonly db: Db)
                    "  constructor(private readonly db: Db) { super(); }" … "  constructor(private readonly db: Db) { super(); }"
                34 method Store.find: async find(id: string): Promise<T>
                    "  /** Finds one. */" … "  async find(id: string): Promise<T> { return this.map.get(id)!; }"
                    doc "Finds one."
                36 method Store.handle: handle = (e: Event): void =>
                    "  handle = (e: Event): void => {}" … "  handle = (e: Event): void => {}"
                37 method Store.size: get size(): number
                    "  get size(): number { return 0; }" … "  get size(): number { return 0; }"
                40 class Shape: export abstract class Shape
                    "export abstract class Shape { abstract area(): number; }" … "export abstract class Shape { abstract area(): number; }"
                40 method Shape.area: abstract area(): number
                    "abstract area(): number" … "abstract area(): number"
                42 function Geo.far: export function far(): void
                    "export function far(): void {}" … "export function far(): void {}"
                43 function outside: declare function outside(a: string): void
                    "declare function outside(a: string): void;" … "declare function outside(a: string): void;"
                44 class default: export default class
                    "export default class { run() {} }" … "export default class { run() {} }"
                44 method default.run: run()
                    "run() {}" … "run() {}"
            "#]],
    );
}

#[test]
fn tsx() {
    found(
        "tsx",
        "type Props = { name: string };\nexport const Hello: FC<Props> = ({ name }) => <p>{name}</p>;\n",
        expect![[r#"
                1 type Props: type Props = { name: string }
                    "type Props = { name: string };" … "type Props = { name: string };"
                2 function Hello: export const Hello: FC<Props> = ({ name }) =>
                    "export const Hello: FC<Props> = ({ name }) => <p>{name}</p>;" … "export const Hello: FC<Props> = ({ name }) => <p>{name}</p>;"
            "#]],
    );
}

#[test]
fn javascript() {
    found(
        "jsx",
        r#"#!/usr/bin/env node
"use strict";

/** Says hello. */
function Hello({ name }) {
  return <p>Hello {name}</p>;
}

export default function () {}
function* ids() { yield 1; }
var old = function () {};
class Cart extends Base {
  #items = [];
  static of(...items) { return new Cart(items); }
  #count() { return 1; }
  get total() { return 0; }
  onClick = () => {};
}
exports.pay = async (order) => order;
module.exports.Shop = class { open() {} };
describe("x", () => { function hidden() {} });
"#,
        expect![[r#"
                5 function Hello: function Hello({ name })
                    "/** Says hello. */" … "}"
                    doc "Says hello."
                9 function default: export default function ()
                    "export default function () {}" … "export default function () {}"
                10 function ids: function* ids()
                    "function* ids() { yield 1; }" … "function* ids() { yield 1; }"
                11 function old: var old = function ()
                    "var old = function () {};" … "var old = function () {};"
                12 class Cart: class Cart extends Base
                    "class Cart extends Base {" … "}"
                14 method Cart.of: static of(...items)
                    "  static of(...items) { return new Cart(items); }" … "  static of(...items) { return new Cart(items); }"
                15 method Cart.#count: #count()
                    "  #count() { return 1; }" … "  #count() { return 1; }"
                16 method Cart.total: get total()
                    "  get total() { return 0; }" … "  get total() { return 0; }"
                17 method Cart.onClick: onClick = () =>
                    "  onClick = () => {}" … "  onClick = () => {}"
                19 function pay: exports.pay = async (order) =>
                    "exports.pay = async (order) => order;" … "exports.pay = async (order) => order;"
                20 class Shop: module.exports.Shop = class
                    "module.exports.Shop = class { open() {} };" … "module.exports.Shop = class { open() {} };"
                20 method Shop.open: open()
                    "open() {}" … "open() {}"
            "#]],
    );
}

#[test]
fn java() {
    found(
        "java",
        r#"package shop;

import java.util.List;

/**
 * What somebody wants.
 */
@Entity
@Table(name = "orders")
public class Order<T> extends Base implements Shop {
    private int id; // its name

    public Order(int id) { this.id = id; }

    // Adds up.
    @Override
    public int total() { Runnable r = new Runnable() { public void run() {} }; return 0; }

    public int total(int tax) { return tax; }

    static class Line { void x() {} }

    enum Pay { CASH { void a() {} }; abstract void a(); }
}

record Point(int x, int y) { Point { } }

interface Shop { void sell(); default int max() { return 1; } }

@interface Marked { String value(); }
"#,
        expect![[r#"
                10 class Order: public class Order<T> extends Base implements Shop
                    "/**" … "}"
                    doc "What somebody wants."
                13 method Order.Order: public Order(int id)
                    "    public Order(int id) { this.id = id; }" … "    public Order(int id) { this.id = id; }"
                17 method Order.total: public int total()
                    "    // Adds up." … "    public int total() { Runnable r = new Runnable() { public void run() {} }; return 0; }"
                    doc "Adds up."
                19 method Order.total: public int total(int tax)
                    "    public int total(int tax) { return tax; }" … "    public int total(int tax) { return tax; }"
                21 class Order.Line: static class Line
                    "    static class Line { void x() {} }" … "    static class Line { void x() {} }"
                21 method Order.Line.x: void x()
                    "void x() {}" … "void x() {}"
                23 enum Order.Pay: enum Pay
                    "    enum Pay { CASH { void a() {} }; abstract void a(); }" … "    enum Pay { CASH { void a() {} }; abstract void a(); }"
                23 method Order.Pay.a: abstract void a()
                    "abstract void a();" … "abstract void a();"
                26 class Point: record Point(int x, int y)
                    "record Point(int x, int y) { Point { } }" … "record Point(int x, int y) { Point { } }"
                26 method Point.Point: Point
                    "Point { }" … "Point { }"
                28 interface Shop: interface Shop
                    "interface Shop { void sell(); default int max() { return 1; } }" … "interface Shop { void sell(); default int max() { return 1; } }"
                28 method Shop.sell: void sell()
                    "void sell();" … "void sell();"
                28 method Shop.max: default int max()
                    "default int max() { return 1; }" … "default int max() { return 1; }"
                30 interface Marked: @interface Marked
                    "@interface Marked { String value(); }" … "@interface Marked { String value(); }"
            "#]],
    );
}

#[test]
fn a_text_with_mistakes_gives_what_can_be_found() {
    found(
        "go",
        "package a\n\nfunc f( {\n}\n\nfunc g() int { return 1 }\n",
        expect![[r#"
            3 function f: func f(
                "func f( {" … "}"
            6 function g: func g() int
                "func g() int { return 1 }" … "func g() int { return 1 }"
        "#]],
    );
    found(
        "py",
        "def f(:\n    pass\n\ndef g():\n    return 1\n",
        expect![[r#"
            1 function f: def f(:
                "def f(:" … "    pass"
            4 function g: def g():
                "def g():" … "    return 1"
        "#]],
    );
    found(
        "ts",
        "export function f() { return 1 }\nclass A {\n  m() {}\n",
        expect![[r#"
            1 function f: export function f()
                "export function f() { return 1 }" … "export function f() { return 1 }"
            2 class A: class A
                "class A {" … "  m() {}"
            3 method A.m: m()
                "  m() {}" … "  m() {}"
        "#]],
    );
    found("rs", "", expect![[""]]);
}

#[test]
fn what_nests_deep_ends() {
    for (ext, open, close) in [("py", "[", "]"), ("rs", "mod a{", "}"), ("ts", "class A { m() {", "}}")] {
        definitions(ext, &format!("{}{}", open.repeat(3_000), close.repeat(3_000))).unwrap();
    }
    let deep = format!("{}fn f(){{}}{}", "mod a{".repeat(40), "}".repeat(40));
    assert_eq!(definitions("rs", &deep).unwrap(), []);
}
