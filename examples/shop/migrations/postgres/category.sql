-- A category is a group of products that belong together, and customers use it to find what they need.
CREATE TABLE categories (
    id text PRIMARY KEY,
    name text NOT NULL,
    slug text NOT NULL
);
