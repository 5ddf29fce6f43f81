-- A cart item is one product in a cart, and it says how many of the product the customer wants.
CREATE TABLE cart_items (
    id text PRIMARY KEY,
    cart_id text NOT NULL REFERENCES carts (id),
    product_id text NOT NULL REFERENCES products (id),
    quantity integer NOT NULL
);
