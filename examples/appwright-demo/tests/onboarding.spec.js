import { test, expect } from "appwright";
import { id } from "../support/shop";

test("a new user takes the tour and signs in", async ({ device }) => {
  await device.getByText("Get started").tap();
  await expect(device.getByText("Find things")).toBeVisible();
  await device.getByText("Next").tap();
  await expect(device.getByText("Pay once")).toBeVisible();
  await device.getByText("Done").tap();
  await device.getById(id("name"), { exact: true }).fill("Ada");
  await device.getById(id("continue"), { exact: true }).tap();
  await expect(device.getByText("Hello Ada")).toBeVisible();
});

test("the tour can be skipped", async ({ device }) => {
  await device.getByText("Get started").tap();
  await device.getByText("Skip").tap();
  await expect(device.getByText("Sign in")).toBeVisible();
});
