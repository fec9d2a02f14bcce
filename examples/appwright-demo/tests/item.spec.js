import { test, expect } from "appwright";
import { id, signIn } from "../support/shop";

const products = [
  { key: "mug", name: "Blue mug", price: "€ 12.00" },
  { key: "tea", name: "Green tea", price: "€ 4.50" },
  { key: "notebook", name: "Notebook", price: "€ 7.25" },
];

for (const { key, name, price } of products) {
  test(`${name} costs ${price}`, async ({ device }) => {
    await signIn(device);
    await device.getById(id(`item_${key}`), { exact: true }).tap();
    expect(await device.getById(id("title"), { exact: true }).getText()).toBe(name);
    expect(await device.getById(id("price"), { exact: true }).getText()).toBe(price);
  });
}
